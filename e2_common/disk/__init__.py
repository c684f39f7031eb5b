# SPDX-License-Identifier: Apache-2.0
"""What lies on disk: checkpoints of torch.distributed and Megatron's indexed datasets."""
