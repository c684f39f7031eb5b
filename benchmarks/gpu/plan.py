# SPDX-License-Identifier: Apache-2.0
"""Which variants benchmarks/gpu_training.py runs, at how many layers and why."""

import argparse
from typing import Any

from benchmarks.gpu.models import DEMANDS, GIB, layers_that_fit, needed_bytes
from e2_common.errors import UserError
from e2_tools.planning.models import Model

USABLE = 0.97  # of the memory
AT_LEAST = 3  # timed steps, even behind the deadline: a first process can start very slowly


def plan(model: Model, options: argparse.Namespace, capacity: float) -> list[dict[str, Any]]:
    """What is run: variant, layers, and why so many.

    Args:
        model: to measure.
        options: of the command line.
        capacity: memory of the device in bytes.

    Raises:
        UserError: not even one layer fits.
    """
    fits = {
        name: layers_that_fit(model, DEMANDS[name], USABLE * capacity, options.micro_batch_size)
        for name in options.variants
    }
    common = options.layers or min(fits.values())
    if common < 1:
        raise UserError(
            f"--preset {options.preset}: not one layer fits into {capacity / GIB:.0f} GiB; "
            "use a smaller preset or --micro-batch-size"
        )
    runs = []
    if options.layers is None and fits.get("ours", 0) > common:
        runs.append({"variant": "ours", "layers": fits["ours"]})
    runs += [{"variant": name, "layers": common} for name in options.variants]
    for run in runs:
        demand = DEMANDS[run["variant"]]
        need = needed_bytes(model, demand, run["layers"], options.micro_batch_size) / GIB
        run["why"] = (
            f"{run['layers']} of {model.sizes.layers} layers: {need:.0f} GiB by arithmetic "
            f"({demand.why}) of {capacity / GIB:.0f}"
        )
    return runs
