# SPDX-License-Identifier: Apache-2.0
"""Ranks in forks of a process: how they end, and that nothing of them stays."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.helpers.preloaded import Preloaded, run_ranks


def run_rank(folder, failing):
    """Start a process that would stay for long; one rank fails or none, the others wait."""
    rank = os.environ["RANK"]
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (Path(folder) / rank).write_text(str(sleeper.pid))
    print(f"rank {rank} of {os.environ['WORLD_SIZE']}", flush=True)
    if failing == "yes" and rank == "0":
        sys.exit(3)
    if failing != "no":
        time.sleep(600)


def started(folder):
    return [int((folder / rank).read_text()) for rank in ("0", "1")]


def is_there(process):
    status = Path(f"/proc/{process}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_nothing_stays_of_ranks(tmp_path):
    logs = [tmp_path / "log.0", tmp_path / "log.1"]
    codes = run_ranks("tests.unit.test_preloaded", [tmp_path, "no"], logs, 60)
    assert codes == [0, 0]
    assert logs[1].read_text() == "rank 1 of 2\n"
    assert not any(map(is_there, started(tmp_path)))


def test_one_that_fails_ends_the_others(tmp_path):
    logs = [tmp_path / "log.0", tmp_path / "log.1"]
    codes = run_ranks("tests.unit.test_preloaded", [tmp_path, "yes"], logs, 60)
    assert codes[0] == 3
    assert codes[1] != 0
    assert logs[1].read_text() == "rank 1 of 2\n"
    assert not any(map(is_there, started(tmp_path)))


def test_one_that_never_ends_says_where_it_is(tmp_path):
    logs = [tmp_path / "log.0", tmp_path / "log.1"]
    codes = run_ranks("tests.unit.test_preloaded", [tmp_path, "never"], logs, 2)
    assert codes == [-signal.SIGTERM] * 2
    assert all("in run_rank" in log.read_text() for log in logs)
    assert not any(map(is_there, started(tmp_path)))


def test_no_thread_is_beside_the_one_that_forks(tmp_path):
    """A lock that such a thread holds at a fork stays locked in the child."""
    one = Preloaded()
    try:
        threads = Path(f"/proc/{one.process.pid}/task")
        logs = [tmp_path / "log.0", tmp_path / "log.1"]
        asked = ["tests.unit.test_preloaded", [tmp_path, "never"], logs, 2]
        with ThreadPoolExecutor(1) as other:
            answer = other.submit(one.run, *asked)
            while not (logs[1].exists() and logs[1].read_text()):
                time.sleep(0.1)
            assert len(list(threads.iterdir())) == 1
            answer.result()
    finally:
        one.end()
