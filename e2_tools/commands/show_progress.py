# SPDX-License-Identifier: Apache-2.0
"""Run a Megatron training with its output in a log file and a progress bar on the terminal.

    python tools/show_progress.py --log run.log [--label NAME] -- torchrun ... pretrain_e2.py ...

The bar shows iterations, the time left and the loss. When the command fails, the lines that say
why are printed and its exit code is returned (2 for a user's mistake, for which torchrun returns
1 after a page of its own). Ctrl-C stops the command and all its ranks.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error
from e2_common.outputs import OutputFile
from e2_tools.arguments import command_parser

ITERATION = re.compile(r"iteration +(\d+)/ +(\d+) \|.*?lm loss: ([-+.\dE]+)")
RANK = re.compile(r"^\[rank\d+\]: +")
REASON = re.compile(r"^[\w.]*(error|Error|Exception)(: .*|)$")
STOP_SECONDS = 20


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    parser.add_argument("--log", type=OutputFile, required=True, help="file for the whole output")
    parser.add_argument("--label", default="training", help="shown before the bar")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="after --, the command to run")
    return parser


@exit_on_user_error
def main() -> None:
    """Run the command; exits with its code."""
    args = build_parser().parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise UserError("no command given; write it after --")
    # The handler's SystemExit passes through run(), which then stops all ranks.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(run(command, args.log, args.label))


def run(command: list[str], log: Path, label: str) -> int:
    """Run ``command`` under a progress bar; returns its exit code.

    Args:
        command: a program and its arguments.
        log: file that gets its standard output and standard error.
        label: shown before the bar.
    """
    from e2_common.progress import progress_bar

    try:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches only us; we stop the whole group
        )
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be run ({error.strerror})") from error
    try:
        with progress_bar(None, "it", label, dynamic_ncols=True) as bar:
            for now, total, loss in iterations(process, log):
                if bar.total is None:
                    # A resumed run starts somewhere in the middle: time only what is still to do.
                    bar.reset(total)
                    bar.initial = bar.n = now - 1
                bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
                bar.update(now - bar.n)
        code = process.wait()
    finally:
        stop(process)
    if code != 0:
        why = reasons(log)
        print("\n".join(why), f"(the whole output: {log})", sep="\n", file=sys.stderr)
        if why and why[0].startswith("error: "):
            return 2  # a user's mistake; torchrun makes a 1 of its ranks' 2
    return code


def iterations(process: subprocess.Popen, log: Path) -> Iterator[tuple[int, int, float]]:
    """Copy the output to the log; yields (iteration, of how many, loss) as they come."""
    with log.open("w", encoding="utf-8") as file:
        for line in process.stdout:
            file.write(line)
            file.flush()
            if match := ITERATION.search(line):
                yield int(match[1]), int(match[2]), float(match[3])


def stop(process: subprocess.Popen) -> None:
    """End the command and everything it started, gently first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)


def reasons(log: Path) -> list[str]:
    """The lines of a failed run that say why, each once; its last lines if none do."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [RANK.sub("", line) for line in text.splitlines()]
    lines = [line for line in lines if not re.fullmatch(r"\s*[~^]+\s*", line)]
    found: list[str] = []
    for before, line in zip(["", *lines], lines, strict=False):
        if REASON.match(line) and "ChildFailedError" not in line:
            # A bare assertion says nothing; the source line above it does.
            found += [line] if ": " in line else [before.strip(), line]
    return list(dict.fromkeys(found)) or lines[-10:]
