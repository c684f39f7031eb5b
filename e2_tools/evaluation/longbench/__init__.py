# SPDX-License-Identifier: Apache-2.0
"""LongBench v1 (Bai et al., 2023, arXiv 2308.14508) by its published protocol."""
