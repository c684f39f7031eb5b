# SPDX-License-Identifier: Apache-2.0
"""--help of the evaluation commands answers at once."""

import pytest

from tests.helpers.commands import run_command

COMMANDS = ["evaluate_longbench.py predict", "evaluate_passkey.py", "evaluate_needle.py"]
COMMANDS += ["plot_attention.py", "generate.py"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_no_heavy_import(command):
    script, *subcommand = command.split()
    run = run_command("-X", "importtime", f"tools/{script}", *subcommand, "--help")
    imported = {line.rsplit("|", 1)[-1].strip() for line in run.stderr.splitlines()}
    assert not imported & {"torch", "transformers", "jieba", "numpy", "matplotlib"}
