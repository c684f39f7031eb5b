# SPDX-License-Identifier: Apache-2.0
"""What this project changes in Megatron."""
