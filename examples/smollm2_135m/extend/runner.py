# SPDX-License-Identifier: Apache-2.0
"""Runs the steps of a long plan: says how far it is, writes down what each cost, stops cleanly."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from examples.smollm2_135m.extend.costs import Costs, hours_left
from examples.smollm2_135m.extend.step import Running, Step

SAVING_SECONDS = 90  # that a stopped training has for its checkpoint


class Runner:
    """Runs steps and keeps the folder's account of them.

    Args:
        folder: for logs and costs.
        plan: all steps, for the time that is left.
        jobs: cores, or on a GPU processes, to use at a time.
    """

    def __init__(self, folder: Path, plan: list[Step], jobs: int) -> None:
        self.logs, self.plan, self.jobs = folder / "logs", plan, jobs
        self.costs = Costs(folder / "costs.jsonl")
        self.logs.mkdir(parents=True, exist_ok=True)
        self.stopped: int | None = None
        self.patient = True
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: Any) -> None:
        self.patient = self.stopped is None  # a second signal waits for nothing
        self.stopped = number

    def run(self, steps: list[Step]) -> None:
        """Run what is not finished of some steps side by side, as far as there are cores.

        Raises:
            SystemExit: a step failed, or a signal came; what ran is stopped then.
        """
        waiting = [step for step in steps if not step.done()]
        running: list[Running] = []
        try:
            while (waiting or running) and self.stopped is None:
                while waiting and self.fits(waiting[0], running):
                    step = waiting.pop(0)
                    self._say(step)
                    environment = os.environ | {"OMP_NUM_THREADS": "1"}
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

    def fits(self, step: Step, running: list[Running]) -> bool:
        """Whether there are cores for a step beside those that run; alone, any fits."""
        busy = sum(each.step.cores for each in running)
        return not running or busy + step.cores <= self.jobs

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
            lines, code = each.failure()
            print(*lines, f"(the whole output: {each.log})", sep="\n", file=sys.stderr)
            sys.exit(code)

    def _account(self, each: Running, finished: bool) -> None:
        self.costs.add(each.step, time.monotonic() - each.begin, each.core_seconds, finished)

    def _stop_all(self, running: list[Running]) -> None:
        end = time.monotonic() + SAVING_SECONDS
        while running:
            for each in running:
                # Again and again: ranks that are only starting do not hear it yet.
                each.stop(force=time.monotonic() > end or not self.patient)
            time.sleep(0.5)
            for each in running[:]:
                if each.ended():
                    running.remove(each)
                    self._account(each, each.process.returncode == 0 and each.step.done())


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
