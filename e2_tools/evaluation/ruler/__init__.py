# SPDX-License-Identifier: Apache-2.0
"""RULER's thirteen tasks (Hsieh et al., 2024, arXiv 2404.06654), drawn as its own scripts do."""
