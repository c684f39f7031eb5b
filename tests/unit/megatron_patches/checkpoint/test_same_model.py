# SPDX-License-Identifier: Apache-2.0
"""Which differences between a run and its checkpoint make another model."""

import argparse
from itertools import product

from megatron_patches.checkpoint.same_model import _differ


def test_a_scaling_factor_counts_where_both_have_the_scaling():
    for there, here, factor in product((False, True), (False, True), (8.0, 32.0)):
        stored = argparse.Namespace(use_rope_scaling=there, rope_scaling_factor=8.0)
        args = argparse.Namespace(use_rope_scaling=here, rope_scaling_factor=factor)
        assert _differ(stored, args, "use_rope_scaling") == (there != here)
        expected = there and here and factor == 32
        assert _differ(stored, args, "rope_scaling_factor") == expected
