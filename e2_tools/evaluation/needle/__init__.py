# SPDX-License-Identifier: Apache-2.0
"""RULER's single needle in a haystack (Hsieh et al., 2024, arXiv 2404.06654)."""
