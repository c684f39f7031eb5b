# SPDX-License-Identifier: Apache-2.0
"""One variant of benchmarks/gpu_training.py, measured in a process of its own.

A kernel that fails can leave a device context behind that nothing works in any more, and memory
that a variant ran out of is whole again only for another process.
"""

import argparse
import dataclasses
import json
import logging
import os
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.gpu.table import row
from e2_common.errors import UserError, brief
from e2_tools.planning.models import Model

OUT_OF_MEMORY = "out of memory"


def check_device(device: str) -> bool:
    """Whether the CPU is wanted.

    Raises:
        UserError: there is no CUDA device, or there is one and the CPU is wanted.
    """
    from megatron_patches.runtime import cpu

    on_cpu = device == "cpu"
    if on_cpu != cpu.is_needed():
        hint = "hide it with CUDA_VISIBLE_DEVICES=''" if on_cpu else "try --device cpu"
        found = "a CUDA device is there" if on_cpu else "no CUDA device was found"
        raise UserError(f"--device {device}: {found}; {hint}")
    return on_cpu


def prepare_megatron() -> bool:
    """Install the CPU runtime where there is no CUDA device, and the fixes; whether on the CPU."""
    from megatron_patches.runtime.prepare import prepare

    logging.disable(logging.WARNING)  # Megatron tells dozens of lines a model
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    return prepare()


def measure_alone(
    model: Model, options: argparse.Namespace, extra: list[str], answer: Path, run: dict[str, Any]
) -> None:
    """Measure, and write the rows, or why there are none, as JSON.

    Args:
        model: to measure.
        options: of the command line; ``time_limit`` is this variant's.
        extra: arguments for Megatron.
        answer: file that gets ``rows``, or ``failed`` with a reason.
        run: of the plan.
    """
    import torch

    end = time.monotonic() + options.time_limit
    try:
        on_cpu = prepare_megatron()
        limits = {"warm_up": options.warm_up, "rounds": options.steps, "deadline": end}
        limits["profiled"] = options.profile_steps
        names, measured = _measure(model, run, options, extra, limits, on_cpu)
        told: dict[str, Any] = {
            "rows": [
                row(model, run, name, seconds, measured, options, on_cpu)
                for name, seconds in zip(names, measured["seconds"], strict=True)
            ]
        }
    except torch.cuda.OutOfMemoryError:
        told = {"failed": OUT_OF_MEMORY}
    except UserError:
        raise
    except Exception as error:  # a kernel can fail in any way
        traceback.print_exc()
        told = {"failed": brief(error)}
    answer.write_text(json.dumps(told))


def _measure(
    model: Model,
    run: dict[str, Any],
    options: argparse.Namespace,
    extra: list[str],
    limits: dict[str, Any],
    on_cpu: bool,
) -> tuple[list[str], dict[str, Any]]:
    """The names of the variant's rows, and what was measured."""
    if run["variant"] == "transformers":
        from benchmarks.gpu import transformers_run

        return NAMES["transformers"], transformers_run.measure(
            model,
            run["layers"],
            options.micro_batch_size,
            options.micro_batches,
            limits,
            options.seed,
            on_cpu,
        )
    from benchmarks.gpu import megatron_runs

    arguments = megatron_runs.megatron_arguments(model, run["layers"], options)
    if run["variant"] == "stock":
        measured = megatron_runs.measure(
            [*arguments, *megatron_runs.STOCK], lambda plain: [None], True, limits, on_cpu
        )
        return NAMES["stock"], measured
    changes = {"position_method": "e2", "max_scale": options.max_scale}
    measured = megatron_runs.measure(
        [*arguments, *extra],
        lambda plain: [dataclasses.replace(plain, **changes), None],
        False,
        limits,
        on_cpu,
    )
    return NAMES["ours"], measured


NAMES = {
    "ours": ["ours, E2", "ours, fixed RoPE"],
    "stock": ["stock Megatron, local layers"],
    "transformers": ["transformers, SDPA, torch.compile"],
}
