# SPDX-License-Identifier: Apache-2.0
"""A GPU without memory: one line at any time of a run, whose flags Megatron has."""

import re

import pytest
import torch

from benchmarks.arguments.table import megatron_parser
from e2_common.errors import UserError
from megatron_patches.start.refusal import MEMORY, one_line


def test_a_full_gpu_is_one_line():
    said = "CUDA out of memory. Tried to allocate 6.00 GiB."
    with pytest.raises(UserError) as refused, one_line():
        raise torch.OutOfMemoryError(f"{said}\nSee documentation for Memory Management")
    assert str(refused.value) == f"{said} {MEMORY}"


def test_the_mend_has_flags_of_megatron():
    flags = {flag for action in megatron_parser()._actions for flag in action.option_strings}
    assert set(re.findall(r"--[a-z-]+", MEMORY)) < flags
