# SPDX-License-Identifier: Apache-2.0
"""Runs ranks in forks of a process that has imported Megatron, which costs seconds each time."""

import atexit
import functools
import json
import os
import selectors
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.helpers import ROOT

STARTING = 120  # seconds


class Preloaded:
    """One such process, which takes one request after the other.

    Args:
        environment: of its imports, on top of this process's own.
    """

    def __init__(self, **environment):
        self.folder = tempfile.TemporaryDirectory()
        self.told = Path(self.folder.name) / "stderr"
        with self.told.open("wb") as told:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.helpers.preloaded_server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=told,
                env={**_environment(), **environment},
                cwd=ROOT,
            )

    def run(self, target, arguments, logs, seconds, printed=None, **environment):
        """The exit code of each rank; see ``preloaded_server.py``."""
        request = {"target": target, "arguments": [*map(str, arguments)], "seconds": seconds}
        request |= {"logs": [*map(str, logs)], "environment": {**_environment(), **environment}}
        request["printed"] = printed and [*map(str, printed)]
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            ready = selector.select(STARTING + seconds + 60)
        answer = self.process.stdout.readline() if ready else b""
        if not answer:
            told = self.told.read_text(errors="replace")[-5000:]
            self.end()
            raise AssertionError(f"no answer to {target}:\n{told}")
        return json.loads(answer)

    def end(self):
        """End it, and close its files."""
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()


def _environment():
    # Warnings of imports would fill the logs; a CUDA device cannot be shared by forks.
    own = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **own}


@functools.cache
def preloaded():
    """The one of this process, until it ends."""
    one = Preloaded()
    atexit.register(one.end)
    return one


def run_ranks(target, arguments, logs, seconds, *, printed=None, fresh=False, **environment):
    """Run ranks of a module's ``run_rank`` and return their exit codes.

    Args:
        target: the module.
        arguments: words for it.
        logs: a file of each rank, which may be the same.
        seconds: until the ranks are told to end.
        printed: a file of each rank for standard output, which is in the logs otherwise.
        fresh: variables of the environment are read at import, so a process of its own is needed.
        environment: variables of the ranks, on top of this process's own.
    """
    if not fresh:
        return preloaded().run(target, arguments, logs, seconds, printed, **environment)
    one = Preloaded(**environment)
    try:
        return one.run(target, arguments, logs, seconds, printed, **environment)
    finally:
        one.end()
