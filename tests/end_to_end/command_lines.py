# SPDX-License-Identifier: Apache-2.0
"""Asks about many command lines of pretrain_e2.py in one process: what is refused, what happens."""

import json
import tempfile
from pathlib import Path

from tests.helpers.preloaded import run_ranks

LONGEST = 90  # seconds of a run


def refusals(commands):
    """What pretrain_e2.py refuses of many command lines, each after its world size, in one go."""
    with tempfile.TemporaryDirectory() as folder:
        named, refused, log = (Path(folder) / name for name in ("named", "refused", "log"))
        named.write_text(json.dumps(commands))
        codes = run_ranks("tests.end_to_end.refusals", [named, refused], [log], 200)
        assert codes == [0], log.read_text()[-5000:]
        return json.loads(refused.read_text())


def forked_runs(runs, folder):
    """Run many command lines of pretrain_e2.py; name -> (exit code, stderr) of each rank.

    A run is a dict of ``argv`` and perhaps ``ranks``, and perhaps ``broken``: a module, a name in
    it, and the body of a function that takes its place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcome = {}
    for number, (name, run) in enumerate(runs.items()):
        logs = [folder / f"{number}.{rank}.log" for rank in range(run.get("ranks", 1))]
        words = [json.dumps(run["argv"]), json.dumps(run.get("broken"))]
        codes = run_ranks("tests.end_to_end.command_line", words, logs, LONGEST, E2_TRACEBACK="")
        texts = [log.read_text(errors="replace") for log in logs]
        outcome[name] = list(zip(codes, texts, strict=True))
    return outcome
