# SPDX-License-Identifier: Apache-2.0
"""Runs the tests of tests/distributed/inside in one torchrun world of two ranks."""

import os
import subprocess
import sys

from tests.helpers import ROOT


def test_modules_in_a_world_of_two():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "pytest", "tests/distributed/inside"]
    command += ["-q", "-W", "ignore", "-p", "no:cacheprovider"]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=ROOT,
        env={**os.environ, "E2_INSIDE_WORLD": "1", "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "1"},
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    assert result.stdout.count(" passed") == 2, result.stdout[-3000:]
