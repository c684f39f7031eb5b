# SPDX-License-Identifier: Apache-2.0
"""The variants of benchmarks/gpu_training.py one after the other: nothing measured is lost.

The result is written after every variant. A variant that fails is a row with the reason; one that
runs out of memory is tried again with fewer layers. A second call with the same settings goes on
behind what the file holds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.table import ratios
from benchmarks.gpu.variant import NAMES, OUT_OF_MEMORY
from megatron_patches.runtime.transformer_engine import HIDE

START = 60.0  # seconds that a process takes before its first step, and after its last, at most
Rows = list[dict[str, Any]]


def measure_all(
    runs: list[dict[str, Any]],
    options: argparse.Namespace,
    rows: Rows,
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Run the plan.

    Args:
        runs: of the plan, first to last.
        options: of the command line.
        rows: what an earlier call measured.
        keep: called with the result so far, whenever there is more of it.

    Returns:
        ``variants``, a row for each, and ``ratios`` of them.
    """
    end = time.monotonic() + options.time_limit
    queue = list(runs)
    while queue:
        run = queue.pop(0)
        names = NAMES[run["variant"]]
        if any(row["name"] == names[0] and row["layers"] == run["layers"] for row in rows):
            continue
        now = time.monotonic()
        # What is left is shared alike; most of a variant's share is for its steps.
        share = max(0.0, end - now) / (len(queue) + 1)
        print(f"{run['variant']}: {run['why']}", flush=True)
        told = _alone(run, share)
        if told.get("failed") == OUT_OF_MEMORY and run["layers"] > 1:
            fewer = run["layers"] - max(1, run["layers"] // 8)
            why = f"{fewer} layers: {run['layers']} do not fit"
            queue.insert(0, {**run, "layers": fewer, "why": why})
        elif "rows" in told and "ours" in options.variants:
            queue.insert(0, {**run, "variant": "ours"})  # for the ratio, if it is not there yet
        failed = {"failed": told.get("failed"), "why": run["why"], "seconds": []}
        rows += told.get("rows") or [
            {"name": name, "layers": run["layers"], **failed} for name in names
        ]
        keep(_result(rows, options))
    return _result(rows, options)


def _result(rows: Rows, options: argparse.Namespace) -> dict[str, Any]:
    return {"variants": rows, "ratios": ratios(rows, options.seed)}


def _alone(run: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Measure a variant in a process of its own; what it told, or why it told nothing."""
    script = Path(__file__).resolve().parents[1] / "gpu_training.py"
    environment = {"PYTHONWARNINGS": "ignore", **os.environ}
    if run["variant"] == "stock":  # as one gets it without Transformer Engine
        environment[HIDE] = "1"
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, str(script), *sys.argv[1:], "--time-limit", str(seconds * 0.9)]
        command += ["--alone", str(answer), "--alone-run", json.dumps(run)]
        try:
            code = subprocess.run(
                command, env=environment, timeout=seconds + START, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {seconds + START:.0f} s"}
        if answer.exists():
            return json.loads(answer.read_text())
    if code == 2:  # the command line is wrong, for all variants alike; its one line has been said
        sys.exit(2)
    return {"failed": f"the process ended with code {code}"}
