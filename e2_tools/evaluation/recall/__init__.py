# SPDX-License-Identifier: Apache-2.0
"""Span recall: a span of words told once in a long window, to be continued when it begins again."""
