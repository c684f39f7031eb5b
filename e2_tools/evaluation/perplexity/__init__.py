# SPDX-License-Identifier: Apache-2.0
"""Sliding-window perplexity by window, under several published protocols."""
