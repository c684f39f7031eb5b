# SPDX-License-Identifier: Apache-2.0
"""A step of a long plan: a command, and that command under way."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ITERATION = re.compile(
    r"iteration +(\d+)/ +(\d+) \|.*?elapsed time per iteration \(ms\): ([.\d]+).*?"
    r"lm loss: ([-+.\dE]+)"
)
HEARTBEAT = 300  # seconds


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: for people, and for its log.
        kind: what is summed up in the table of costs, and has one speed.
        command: program and arguments.
        done: whether it has been finished.
        core_seconds: estimated.
        cores: that it uses.
        saves: it takes SIGTERM to save and end.
    """

    name: str
    kind: str
    command: list[str]
    done: Callable[[], bool]
    core_seconds: float = 30.0
    cores: int = 1
    saves: bool = False


def in_turn(name: str, steps: list[Step]) -> Step:
    """One step of several that are to run one after another in one process."""
    words = [sys.executable, "examples/common/in_turn.py"]
    for step in steps:
        words += [*step.command[1:], "--"]
    return Step(
        name, steps[0].kind.rsplit(" ", 1)[0], words[:-1],
        lambda: all(step.done() for step in steps), sum(step.core_seconds for step in steps),
    )  # fmt: skip


class Running:
    """A step under way, with its output in a log.

    Args:
        step: to start.
        log: its file; an earlier one is kept under ``.old``.
        environment: of the command.
    """

    def __init__(self, step: Step, log: Path, environment: dict[str, str]) -> None:
        if log.exists():
            log.replace(log.with_suffix(".old"))
        self.step, self.log, self.begin, self.told = step, log, time.monotonic(), time.monotonic()
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                step.command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                # torchrun would kill its ranks while they save: it is to ignore SIGTERM, which
                # they take themselves.
                preexec_fn=_ignore_sigterm if step.saves else None,
            )
        self.core_seconds = 0.0

    def ended(self) -> bool:
        """Whether it has ended; then its processor time is known."""
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if not pid:
            return False
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.core_seconds = usage.ru_utime + usage.ru_stime
        return True

    def stop(self, force: bool = False) -> None:
        """Ask it and everything it started to end, or make it; asking again does no harm."""
        number = signal.SIGKILL if force else signal.SIGTERM
        if self.step.saves:  # torchrun's ranks are in sessions of their own
            words = ["pkill", f"-{number:d}", "-P", str(self.process.pid)]
            subprocess.run(words, check=False)
        if force or not self.step.saves:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def heartbeat(self) -> str | None:
        """A line about a long step, now and then."""
        if time.monotonic() - self.told < HEARTBEAT:
            return None
        self.told = time.monotonic()
        found = ITERATION.findall(self.log.read_text(encoding="utf-8", errors="replace"))
        if not found:
            return None
        now, total, milliseconds, loss = map(float, found[-1])
        minutes = (total - now) * milliseconds / 60_000
        return (
            f"{self.step.name}: iteration {now:.0f} of {total:.0f}, loss {loss:.3f}, "
            f"about {minutes:.0f} minutes of it left"
        )

    def failure(self) -> tuple[list[str], int]:
        """Why it failed, and the exit code for that: 2 if it says so in a line of its own."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        if errors:
            return errors[:1], 2
        code = self.process.returncode
        return [f"error: {self.step.name} ended with code {code}", *lines[-8:]], max(code, 1)


def _ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
