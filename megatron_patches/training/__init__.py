# SPDX-License-Identifier: Apache-2.0
"""The forward step, validation by window, statistics of the draws."""
