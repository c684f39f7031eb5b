# SPDX-License-Identifier: Apache-2.0
"""Key tokens: those that a long context makes easy (LongPPL, arXiv 2410.23771)."""
