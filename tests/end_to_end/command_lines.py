# SPDX-License-Identifier: Apache-2.0
"""Asks Megatron's parser and ours about many command lines of pretrain_e2.py."""

import json

from tests.helpers.commands import run_command


def refusals(commands):
    """What pretrain_e2.py refuses of many command lines, each after its world size, in one go."""
    script = "tests/end_to_end/refusals.py"
    result = run_command(script, stdin=json.dumps(commands), timeout=200)
    return json.loads(result.stdout.splitlines()[-1])
