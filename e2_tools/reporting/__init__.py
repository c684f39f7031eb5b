# SPDX-License-Identifier: Apache-2.0
"""One page of a run: its result files and training curves, gathered, drawn and written as HTML."""
