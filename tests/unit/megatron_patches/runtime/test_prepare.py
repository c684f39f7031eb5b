# SPDX-License-Identifier: Apache-2.0
"""What is decided before Megatron is imported."""

from megatron_patches.runtime.prepare import is_fsdp


def test_fully_sharded_runs_are_told_by_any_spelling_of_their_flags():
    for word in ("--use-torch-fsdp2", "--use-megatron-fsdp", "--use-torch-fsdp", "--use-megatron"):
        assert is_fsdp(["pretrain_e2.py", "--bf16", word]), word
    for word in ("--use-checkpoint-args", "--use-distributed-optimizer", "-u", "2", ""):
        assert not is_fsdp(["pretrain_e2.py", word]), word
