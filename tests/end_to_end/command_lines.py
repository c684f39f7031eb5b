# SPDX-License-Identifier: Apache-2.0
"""Asks about many command lines of pretrain_e2.py in one process: what is refused, what happens."""

import json
import os
import subprocess
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
        codes = _run(run["argv"], logs, [os.devnull] * len(logs), run.get("broken"))
        texts = [log.read_text(errors="replace") for log in logs]
        outcome[name] = list(zip(codes, texts, strict=True))
    return outcome


def forked_run(*argv, code=0):
    """Run a command line of pretrain_e2.py on one rank, as ``run_command`` would."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("out", "err")]
        (found,) = _run([*map(str, argv)], [files[1]], [files[0]])
        out, err = (file.read_text(errors="replace") for file in files)
    assert found == code, f"exit {found}\n{out[-3000:]}{err[-3000:]}"
    return subprocess.CompletedProcess(argv, found, out, err)


def _run(argv, logs, printed, broken=None):
    words = [json.dumps(argv), json.dumps(broken)]
    target = "tests.end_to_end.command_line"
    return run_ranks(target, words, logs, LONGEST, printed=printed, E2_TRACEBACK="")
