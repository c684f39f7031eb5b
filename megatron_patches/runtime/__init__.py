# SPDX-License-Identifier: Apache-2.0
"""Defects of Megatron, and Megatron on a machine without CUDA."""
