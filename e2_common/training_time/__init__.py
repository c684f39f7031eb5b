# SPDX-License-Identifier: Apache-2.0
"""How long training takes on GPUs: what is known of them, how a step is spread, its seconds.

For the start-up report and ``tools/plan_memory.py``; needs neither torch nor Megatron.
"""
