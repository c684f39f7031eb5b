# SPDX-License-Identifier: Apache-2.0
"""Run a command over a text and measure all of its processes together: time, cores, memory."""

import argparse
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2_common.errors import UserError, last_line
from e2_tools.arguments import command_parser

SAMPLE_SECONDS = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")


def parser_of_text(description: str) -> argparse.ArgumentParser:
    """Return a parser of what every benchmark of a tokenizer asks for."""
    parser = command_parser(description)
    add = parser.add_argument
    add("--input", required=True, type=Path, metavar="FILE.jsonl", help="JSON lines with text")
    add("--tokenizer", required=True, metavar="DIR", help="a Hugging Face tokenizer's folder")
    return parser


def check_text(path: Path) -> None:
    """Check that there is a text.

    Raises:
        UserError: there is none.
    """
    if not path.is_file():
        raise UserError(f"--input {path}: no such file; benchmarks/debian_text.py makes one")


@dataclass(frozen=True)
class Measured:
    """What a command took.

    Attributes:
        seconds: from start to end.
        cpu_seconds: of all its processes, user and system.
        parent_cpu_seconds: of the first process alone, as last seen.
        peak_bytes: largest sum of the proportional set sizes of its processes, which counts a page
            that two of them share once; seen every 0.1 s.
        output: of standard output.
    """

    seconds: float
    cpu_seconds: float
    parent_cpu_seconds: float
    peak_bytes: int
    output: str


def measured(command: Sequence[str], memory: bool = False) -> Measured:
    """Run a command to its end.

    Args:
        command: the command.
        memory: whether to look at the memory, which costs the command some of its time.

    Raises:
        UserError: it fails.
    """
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watch = _Watch(process.pid, memory)
    watch.start()
    texts: dict[str, str] = {}
    readers = [
        threading.Thread(
            target=lambda name=name, stream=stream: texts.update({name: stream.read()})
        )
        for name, stream in (("output", process.stdout), ("errors", process.stderr))
    ]
    for reader in readers:
        reader.start()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    watch.stop()
    for reader in readers:
        reader.join()
    process.stdout.close()
    process.stderr.close()
    if process.returncode:
        last = last_line(texts["errors"])
        raise UserError(f"{' '.join(command[:2])}: exit code {process.returncode}: {last}")
    cpu = usage.ru_utime + usage.ru_stime
    return Measured(seconds, cpu, watch.parent_cpu_seconds, watch.peak_bytes, texts["output"])


class _Watch(threading.Thread):
    """Looks at a process and its descendants now and then."""

    def __init__(self, pid: int, memory: bool):
        super().__init__(daemon=True)
        self._pid = pid
        self._memory = memory
        self._over = threading.Event()
        self.parent_cpu_seconds = 0.0
        self.peak_bytes = 0

    def run(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.parent_cpu_seconds = _cpu_seconds(self._pid) or self.parent_cpu_seconds
            if self._memory:
                total = sum(map(_resident_bytes, _tree(self._pid)))
                self.peak_bytes = max(self.peak_bytes, total)

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self.join()


def _tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for parent in found:  # grows meanwhile
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, _read(path).split())
    return found


def _resident_bytes(pid: int) -> int:
    lines = _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _cpu_seconds(pid: int) -> float:
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has just ended
        return ""
