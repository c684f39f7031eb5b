# SPDX-License-Identifier: Apache-2.0
"""BABILong's first three tasks (Kuratov et al., 2024, arXiv 2406.10149): facts in a long text."""
