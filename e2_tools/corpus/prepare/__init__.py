# SPDX-License-Identifier: Apache-2.0
"""Public corpora, as they are released, to JSON lines: a text, and what is to be learnt of it."""
