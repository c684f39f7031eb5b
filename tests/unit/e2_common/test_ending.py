# SPDX-License-Identifier: Apache-2.0
"""A command that is told to end, and one that nobody reads: one line or none, nothing left over."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from e2_common.ending import run_script
from e2_common.errors import UserError, exit_on_user_error
from e2_common.files import atomic_file
from tests.helpers import ROOT

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


def ended(main):
    with pytest.raises(SystemExit) as stop:
        exit_on_user_error(main)()
    return stop.value.code


@pytest.mark.parametrize("name", ENDING)
def test_a_signal_undoes_what_was_begun(tmp_path, capsys, monkeypatch, name):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    number = getattr(signal, name)
    # A shell may have it ignored.
    default = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
    before = signal.signal(number, default)

    def main():
        with atomic_file(tmp_path / "out", "--output") as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), number)
            time.sleep(5)

    try:
        assert ended(main) == 130
        assert signal.getsignal(number) is default
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err == "interrupted\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ENDING[1:])
def test_signals_of_others_are_let_be(monkeypatch, name):
    """nohup ignores SIGHUP, Megatron handles SIGTERM, torchrun ends ranks that wait for others."""
    number, seen = getattr(signal, name), []
    before = signal.signal(number, lambda *_: seen.append(name))
    try:
        exit_on_user_error(lambda: os.kill(os.getpid(), number))()
        assert seen == [name]
        signal.signal(number, signal.SIG_IGN)
        exit_on_user_error(lambda: os.kill(os.getpid(), number))()
    finally:
        signal.signal(number, before)
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert exit_on_user_error(lambda: signal.getsignal(number))() is before


def test_a_process_forked_by_a_command_ends_as_any(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def main():
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writes, b"!")  # Python drops signals that come while it still forks
            time.sleep(5)
            os._exit(0)
        os.read(reads, 1)
        os.kill(child, signal.SIGTERM)
        return os.waitpid(child, 0)[1]

    try:
        assert os.WTERMSIG(exit_on_user_error(main)()) == signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


def test_only_the_main_thread_can_handle_signals():
    results = []
    thread = threading.Thread(target=lambda: results.append(exit_on_user_error(lambda: 3)()))
    thread.start()
    thread.join()
    assert results == [3]


def gone():
    reads, writes = os.pipe()
    os.close(reads)
    return writes


@pytest.mark.parametrize("buffering", ["line", "unbuffered", "whole"])
@pytest.mark.parametrize("leave", [False, True])
@pytest.mark.parametrize(
    ("opened", "code", "told"),
    [
        (gone, 141, ""),
        (
            lambda: os.open("/dev/full", os.O_WRONLY),
            2,
            "error: standard output: cannot be written (No space left on device)\n",
        ),
    ],
)
def test_standard_output_that_takes_nothing(
    monkeypatch, capsys, opened, code, told, leave, buffering
):
    def main():
        print("a line", flush=buffering == "unbuffered")
        if leave:
            raise SystemExit(0)

    with os.fdopen(opened(), "w", buffering=1 if buffering == "line" else -1) as stream:
        monkeypatch.setattr("sys.stdout", stream)
        assert ended(main) == code
        monkeypatch.undo()
    assert capsys.readouterr().err == told


def test_other_errors_stay_what_they_are(capsys):
    def broken():
        raise BrokenPipeError(32, "of a socket")

    with pytest.raises(BrokenPipeError, match="of a socket"):
        exit_on_user_error(broken)()

    def mistaken():
        raise UserError("--flag: mend it")

    assert ended(mistaken) == 2
    assert capsys.readouterr().err == "error: --flag: mend it\n"


def test_without_standard_output(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    assert exit_on_user_error(lambda: print("nowhere"))() is None


# What keeps Python from ending, or from ending soon.
HANGING = {
    "nothing": "",
    "a thread": "threading.Thread(target=time.sleep, args=(1000,)).start()",
    "an object": "builtins.kept = type('Kept', (), {'__del__': lambda _: time.sleep(1000)})()",
    "atexit": "ending.CLEANING_SECONDS = 1; atexit.register(time.sleep, 1000)",
}


@pytest.mark.parametrize("hanging", HANGING)
@pytest.mark.parametrize(
    ("statement", "code", "told"),
    [
        ("raise ValueError('no memory')", 1, "ValueError: no memory"),
        ("raise UserError('--x 1: choose 2')", 2, "error: --x 1: choose 2"),
        ("sys.exit('left')", 1, "left"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
    ],
)
def test_a_script_that_fails_ends(tmp_path, hanging, statement, code, told):
    kept = tmp_path / "kept"
    program = (
        "import atexit, builtins, pathlib, sys, threading, time\n"
        "from e2_common import ending\n"
        "from e2_common.errors import UserError, exit_on_user_error\n"
        "@exit_on_user_error\n"
        "def main():\n"
        f"    {HANGING[hanging]}\n"
        f"    atexit.register(pathlib.Path({str(kept)!r}).touch)\n"
        "    print('printed')\n"
        f"    {statement}\n"
        "ending.run_script(main)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert (run.returncode, run.stdout) == (code, "printed\n")
    assert run.stderr.splitlines()[-1] == told
    assert kept.exists()


def test_a_script_that_succeeds_goes_on():
    done = []
    run_script(lambda: done.append(1))
    with pytest.raises(SystemExit):
        run_script(lambda: sys.exit(0))
    assert done == [1]
