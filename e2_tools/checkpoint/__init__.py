# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: Megatron's torch_dist folders and Hugging Face directories. Pure CPU."""
