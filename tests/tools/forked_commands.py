# SPDX-License-Identifier: Apache-2.0
"""Runs command lines of the commands in odd surroundings, each in a fork that has imported all.

    python -m tests.tools.forked_commands < CASES.json

stdin: list of {"command", "argv", "folder", "how", "after"}. ``how`` is a key of :data:`HOW`, or a
signal's name, sent after ``after`` seconds. Last line of stdout: for each case [exit code, what it
wrote to stderr, seconds].
"""

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

LONGEST = 60  # seconds of a case
NOBODY = 65534


def reader_gone():
    """Standard output is a pipe that nobody reads."""
    reads, writes = os.pipe()
    os.close(reads)
    os.dup2(writes, 1)


def full():
    """Standard output is a full disk."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def closed():
    """Standard output is closed, as with `>&-`."""
    os.close(1)
    sys.stdout = None


def homeless():
    """No variable but the path is set."""
    path = os.environ["PATH"]
    temporary = os.environ["TMPDIR"]
    os.environ.clear()
    os.environ.update(PATH=path, TMPDIR=temporary, CUDA_VISIBLE_DEVICES="", LC_ALL="C")


def few_files():
    """As after `ulimit -n 64`."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def nobody():
    """A user who may read everything and write nothing."""
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)


HOW = {each.__name__: each for each in (reader_gone, full, closed, homeless, few_files, nobody)}
HOW["plain"] = lambda: None


def main():
    """Run the cases one after the other."""
    cases = json.load(sys.stdin)
    from e2_tools.corpus.quiet import quiet_imports

    with quiet_imports():
        for name in ("torch", "transformers.models.auto", "matplotlib.pyplot", "safetensors.torch"):
            importlib.import_module(name)
        importlib.import_module("megatron.core.tokenizers")
        importlib.import_module("megatron.core.datasets.indexed_dataset")
    print(json.dumps([outcome(case) for case in cases]))


def outcome(case):
    """Run one; exit code, standard error, seconds."""
    told = Path(case["folder"]) / "stderr"
    reads, writes = os.pipe()
    process = os.fork()
    if process == 0:
        child(case, told, writes)
    os.read(reads, 1)
    os.close(reads)
    os.close(writes)
    begun = time.monotonic()
    sent = case["how"] in HOW
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        seconds = time.monotonic() - begun
        if ended:
            break
        if not sent and seconds > case["after"]:
            os.kill(process, getattr(signal, case["how"]))
            sent = True
        if seconds > LONGEST:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.002)
    text = told.read_text(errors="replace")
    told.unlink()
    return [os.waitstatus_to_exitcode(status), text, seconds]


def child(case, told, ready):
    """The command in its surroundings, after a word that it begins; never returns."""
    code = 1
    try:
        os.chdir(case["folder"])
        os.environ["TMPDIR"] = f"{case['folder']}/tmp"
        os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        module = importlib.import_module(f"e2_tools.commands.{case['command']}")
        sys.argv = [case["command"], *case["argv"]]
        HOW.get(case["how"], HOW["plain"])()
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # whatever the shell of the tests ignores
            default = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
            signal.signal(getattr(signal, name), default)
        os.write(ready, b".")
        module.main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except BaseException:
        traceback.print_exc()
    finally:
        os.write(ready, b".")
        with contextlib.suppress(Exception):
            if sys.stdout is not None:
                sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
