# SPDX-License-Identifier: Apache-2.0
"""The progress bar around a training: exit codes, the reason of a failure, a clean stop."""

import os
import signal
import subprocess
import sys
import time

from e2_tools.commands.show_progress import iterations, reasons, run
from tests.helpers import ROOT
from tests.helpers.commands import refused_by, run_command

TRAINING = """
print(" [time] iteration        3/      10 | consumed samples: 24 | lm loss: 4.5E+00 |")
print("something else")
print(" [time] iteration       10/      10 | consumed samples: 80 | lm loss: 4.0E+00 |")
"""


def python(code):
    return [sys.executable, "-c", code]


def test_iterations_are_read_and_the_log_is_whole(tmp_path):
    process = subprocess.Popen(python(TRAINING), stdout=subprocess.PIPE, text=True)
    found = list(iterations(process, tmp_path / "log"))
    assert found == [(3, 10, 4.5), (10, 10, 4.0)]
    assert (tmp_path / "log").read_text() == run_command("-c", TRAINING).stdout


def test_exit_code_is_the_commands(tmp_path):
    assert run(python(TRAINING), tmp_path / "log", "test") == 0
    assert run(python("raise SystemExit(3)"), tmp_path / "log", "test") == 3
    mistake = "print('error: --lr x: wrong'); raise SystemExit(1)"
    assert run(python(mistake), tmp_path / "log", "test") == 2


def test_a_failure_is_told_once(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "lots of output\nerror: --seq-length 9: wrong\nerror: --seq-length 9: wrong\n"
        "[rank1]: ValueError: no\ntorch.distributed.ChildFailedError: \n"
    )
    assert reasons(log) == ["error: --seq-length 9: wrong", "ValueError: no"]
    log.write_text(
        "[rank0]:     assert a < b\n[rank0]:            ^^^^^\n[rank0]: AssertionError\n"
    )
    assert reasons(log) == ["assert a < b", "AssertionError"]
    log.write_text("[rank0]:     assert a < b\n[rank0]: AssertionError\n")
    assert reasons(log) == ["assert a < b", "AssertionError"]
    log.write_text("just\nthis")
    assert reasons(log) == ["just", "this"]


def test_termination_stops_what_the_command_started(tmp_path):
    pid_file = tmp_path / "pid"
    child = (
        "import subprocess, sys, pathlib, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'])\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(p.pid))\n"
        "time.sleep(100)"
    )
    script = str(ROOT / "tools" / "show_progress.py")
    command = [sys.executable, script, "--log", str(tmp_path / "log"), "--", *python(child)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    grandchild = int(pid_file.read_text())
    while time.monotonic() < deadline and os.path.exists(f"/proc/{grandchild}"):
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{grandchild}")


def test_no_command_is_refused(tmp_path):
    result = run_command("tools/show_progress.py", "--log", tmp_path / "log", code=2)
    assert refused_by(result, ()) == "no command given; write it after --"
