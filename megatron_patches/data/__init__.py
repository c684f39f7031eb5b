# SPDX-License-Identifier: Apache-2.0
"""Datasets, blends and loss masks."""
