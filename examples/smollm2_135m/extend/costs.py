# SPDX-License-Identifier: Apache-2.0
"""What the steps of a plan have cost, and what is left will."""

import json
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

from examples.smollm2_135m.extend.step import Step

UNITS = ("seconds", "core_seconds")


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


def hours_left(steps: list[Step], costs: Costs, jobs: int) -> float:
    """Estimate the hours of steps; evaluations, which take one core, run ``jobs`` at a time."""
    total = 0.0
    for step in steps:
        beside = jobs if step.kind.split()[0] in ("perplexity", "needle", "ruler") else step.cores
        total += step.core_seconds * costs.factor(step.kind) / beside
    return total / 3600
