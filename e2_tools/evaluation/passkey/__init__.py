# SPDX-License-Identifier: Apache-2.0
"""Passkey retrieval (Mohtashami and Jaggi, 2023, arXiv 2305.16300)."""
