# SPDX-License-Identifier: Apache-2.0
"""Asks about many command lines of pretrain_e2.py in one process: what is refused, what happens."""

import json

from tests.helpers.commands import run_command


def refusals(commands):
    """What pretrain_e2.py refuses of many command lines, each after its world size, in one go."""
    script = "tests/end_to_end/refusals.py"
    result = run_command(script, stdin=json.dumps(commands), timeout=200)
    return json.loads(result.stdout.splitlines()[-1])


def forked_runs(runs, folder):
    """Run many command lines of pretrain_e2.py; name -> (exit code, stderr) of each rank.

    A run is a dict of ``argv`` and perhaps ``ranks`` and ``broken``, see ``forked_runs.py``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result = run_command(
        "tests/end_to_end/forked_runs.py",
        folder,
        stdin=json.dumps(runs),
        timeout=400,
        PYTHONWARNINGS="ignore",
    )
    return json.loads(result.stdout.splitlines()[-1])
