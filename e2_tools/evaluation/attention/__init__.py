# SPDX-License-Identifier: Apache-2.0
"""Attention of generated tokens over a long input (figure 6 of the E2-LLM paper)."""
