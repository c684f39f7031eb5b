# SPDX-License-Identifier: Apache-2.0
"""Evaluation protocols and their result files."""
