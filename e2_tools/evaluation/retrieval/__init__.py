# SPDX-License-Identifier: Apache-2.0
"""Retrieval tests by window and depth: something told once in a long text, asked for later."""
