# SPDX-License-Identifier: Apache-2.0
"""--help of the evaluation commands answers at once."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ["evaluate_longbench.py predict", "evaluate_passkey.py", "evaluate_needle.py"]
COMMANDS += ["plot_attention.py", "generate.py"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_no_heavy_import(command):
    script, *subcommand = command.split()
    run = subprocess.run(
        [sys.executable, "-X", "importtime", ROOT / "tools" / script, *subcommand, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rsplit("|", 1)[-1].strip() for line in run.stderr.splitlines()}
    assert not imported & {"torch", "transformers", "jieba", "numpy", "matplotlib"}
