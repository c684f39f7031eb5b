# SPDX-License-Identifier: Apache-2.0
"""Runs the tests of tests/distributed/inside in one torchrun world of two ranks."""

from tests.helpers.commands import run_command


def test_modules_in_a_world_of_two():
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "pytest", "tests/distributed/inside", "-q", "-W", "ignore"]
    command += ["-p", "no:cacheprovider"]
    result = run_command(*command, timeout=280, E2_INSIDE_WORLD=1, TRITON_INTERPRET=1)
    assert result.stdout.count(" passed") == 2, result.stdout[-3000:]
