# SPDX-License-Identifier: Apache-2.0
"""Runs the steps of a long plan: says how far it is, writes down what each cost, stops cleanly."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2_common.errors import UserError

ITERATION = re.compile(r"iteration +(\d+)/ +(\d+) \|.*?lm loss: ([-+.\dE]+)")
SAVING_SECONDS = 90  # that a stopped training has for its checkpoint
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


class Costs:
    """What the steps of a folder have cost so far: a line of JSON for each attempt.

    Args:
        path: of the file, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):  # of a machine that went down while writing
                    self.rows.append(json.loads(line))

    def add(self, step: Step, seconds: float, core_seconds: float, finished: bool) -> None:
        """Write down an attempt: its wall-clock and processor seconds."""
        row = {
            "step": step.name,
            "kind": step.kind,
            "cores": step.cores,
            "seconds": round(seconds, 1),
            "core_seconds": round(core_seconds, 1),
            "estimate": round(step.core_seconds, 1),
            "finished": finished,
        }
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def factor(self, kind: str) -> float:
        """How much longer than estimated finished steps of a kind, or else all, have taken."""
        family = kind.split()[0]
        rows = [row for row in self.rows if row["finished"] and row["kind"].split()[0] == family]
        taken = sum(row["seconds"] * row["cores"] for row in rows)
        return taken / sum(row["estimate"] for row in rows) if rows else 1.0

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows of the table of costs: hours of cores, by kind."""
        kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self.rows:
            kinds[row["kind"]].append(row)
        kinds["all"] = self.rows
        hours = [
            [kind, *(f"{sum(row[unit] for row in rows) / 3600:.2f}" for unit in UNITS)]
            for kind, rows in kinds.items()
        ]
        return ["step", "hours, one after the other", "core-hours"], hours


UNITS = ("seconds", "core_seconds")


def hours_left(steps: list[Step], costs: Costs, jobs: int) -> float:
    """Estimate the hours of steps; those of one core run ``jobs`` at a time."""
    total = 0.0
    for step in steps:
        seconds = step.core_seconds * costs.factor(step.kind)
        total += seconds / (jobs if step.kind.split()[0] in PARALLEL else step.cores)
    return total / 3600


PARALLEL = ("perplexity", "needle")


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
        """Ask it and everything it started to end, or make it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL if force else signal.SIGTERM)

    def heartbeat(self) -> str | None:
        """A line about a long step, now and then."""
        if time.monotonic() - self.told < HEARTBEAT:
            return None
        self.told = time.monotonic()
        found = ITERATION.findall(self.log.read_text(encoding="utf-8", errors="replace"))
        return (
            f"{self.step.name}: iteration {found[-1][0]} of {found[-1][1]}, loss "
            + (f"{float(found[-1][2]):.3f}")
            if found
            else None
        )

    def reasons(self) -> list[str]:
        """Why it failed: the line that says so, or the last ones of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        return errors[:1] or [
            f"error: {self.step.name} ended with code {self.process.returncode}",
            *lines[-8:],
        ]


def _ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Runner:
    """Runs steps and keeps the folder's account of them.

    Args:
        folder: for logs and costs.
        plan: all steps, for the time that is left.
        jobs: steps of one core at a time.
    """

    def __init__(self, folder: Path, plan: list[Step], jobs: int) -> None:
        self.logs, self.plan, self.jobs = folder / "logs", plan, jobs
        self.costs = Costs(folder / "costs.jsonl")
        self.logs.mkdir(parents=True, exist_ok=True)
        self.stopped: int | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: Any) -> None:
        self.stopped = number

    def run(self, steps: list[Step], jobs: int = 1, cores: int = 1) -> None:
        """Run what is not finished of some steps, ``jobs`` at a time.

        Raises:
            SystemExit: a step failed, or a signal came; what ran is stopped then.
        """
        waiting = [step for step in steps if not step.done()]
        running: list[Running] = []
        try:
            while (waiting or running) and self.stopped is None:
                while waiting and len(running) < jobs:
                    step = waiting.pop(0)
                    self._say(step)
                    environment = os.environ | {"OMP_NUM_THREADS": str(cores)}
                    log = self.logs / f"{step.name.replace(' ', '-')}.log"
                    running.append(Running(step, log, environment))
                for each in running[:]:
                    if each.ended():
                        running.remove(each)
                        self._end(each)
                    elif line := each.heartbeat():
                        print(f"[{time.strftime('%H:%M')}] {line}", flush=True)
                time.sleep(0.2)
        finally:
            self._stop_all(running)
        if self.stopped is not None:
            print("stopped; the same command goes on from here", flush=True)
            sys.exit(128 + self.stopped)

    def _say(self, step: Step) -> None:
        left = [each for each in self.plan if not each.done()]
        hours = hours_left(left, self.costs, self.jobs)
        done = len(self.plan) - len(left)
        print(
            f"[{time.strftime('%H:%M')}] {done} of {len(self.plan)} done, about {hours:.1f} hours "
            f"left: {step.name}",
            flush=True,
        )

    def _end(self, each: Running) -> None:
        finished = each.process.returncode == 0 and each.step.done()
        self._account(each, finished)
        if self.stopped is None and not finished:
            print(
                "\n".join(each.reasons()),
                f"(the whole output: {each.log})",
                sep="\n",
                file=sys.stderr,
            )
            sys.exit(each.process.returncode if each.process.returncode > 0 else 1)

    def _account(self, each: Running, finished: bool) -> None:
        self.costs.add(each.step, time.monotonic() - each.begin, each.core_seconds, finished)

    def _stop_all(self, running: list[Running]) -> None:
        for each in running:
            each.stop()
        end = time.monotonic() + SAVING_SECONDS
        while running:
            for each in running[:]:
                if each.ended():
                    running.remove(each)
                    self._account(each, each.process.returncode == 0 and each.step.done())
                elif time.monotonic() > end:
                    each.stop(force=True)
            time.sleep(0.1)


def refuse_a_second(folder: Path) -> Any:
    """Return a lock on the folder, held until it is closed.

    Raises:
        UserError: another run holds it.
    """
    import fcntl

    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise UserError(f"--out {folder}: another run works there; stop it or wait") from error
    return lock
