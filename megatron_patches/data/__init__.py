# SPDX-License-Identifier: Apache-2.0
"""Datasets, blends, loss masks, and documents that are apart."""
