# SPDX-License-Identifier: Apache-2.0
"""Asks Megatron's parser and ours about many command lines of pretrain_e2.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def refused(commands):
    """What pretrain_e2.py refuses of many command lines, each after its world size, in one go."""
    result = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "end_to_end" / "refusals.py")],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])
