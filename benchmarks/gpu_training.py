# SPDX-License-Identifier: Apache-2.0
"""Training speed on a GPU: E2 in Megatron beside stock Megatron and transformers.

    python benchmarks/gpu_training.py --correctness            loss and gradients of every kernel
    python benchmarks/gpu_training.py --output speed.json      then measure; also speed.png

Measured are: ours with E2; ours with fixed RoPE (the price of E2); stock Megatron's local layers;
transformers' Llama with SDPA and torch.compile. Each trains a Llama of the preset's shape in bf16
with AdamW on fp32 master weights. Every step is timed alone after a warm-up, the median counts.
All at the same number of layers, the largest that fits for each; if ours alone has room for more,
it is measured at that number as well.
"""

import argparse
import dataclasses
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
from benchmarks.gpu.models import PRESETS
from benchmarks.gpu.plan import plan
from benchmarks.gpu.table import ratios, row, table
from e2_common.errors import UserError, exit_on_user_error
from e2_common.outputs import OutputFile, check_output
from e2_tools.arguments import command_parser, flag_of
from e2_tools.planning.models import Model
from pretrain_e2 import as_single_process

SCHEMA = "e2-llm/gpu-training/1"
VARIANTS = ("ours", "stock", "transformers")


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="llama2-7b", help="model (default: %(default)s)")
    add("--layers", type=int, help="of every variant (default: what fits, at most the model's)")
    add("--micro-batch-size", type=int, default=1, help="samples (default: %(default)s)")
    add("--micro-batches", type=int, default=4, help="of a step (default: %(default)s)")
    add("--steps", type=int, default=20, help="timed of each variant (default: %(default)s)")
    add("--warm-up", type=int, default=4, help="steps before those (default: %(default)s)")
    add("--max-scale", type=int, default=20, help="G_max of E2 (default: %(default)s)")
    add(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        default=list(VARIANTS),
        help="ours is E2 and fixed RoPE in turn (default: all)",
    )
    add(
        "--time-limit",
        type=float,
        default=500.0,
        metavar="SECONDS",
        help="for all; shared out among the variants, which then take fewer steps "
        "(default: %(default)s)",
    )
    add("--profile-steps", type=int, default=2, help="under the profiler (default: %(default)s)")
    add("--seed", type=int, default=1234, help="of weights, tokens, draws (default: %(default)s)")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu is for tests of this file")
    add(
        "--correctness", action="store_true", help="check kernels instead; exit code 1 if one fails"
    )
    add(
        "--output", type=OutputFile, metavar="FILE.json", help="write all; a picture lies beside it"
    )
    return parser


@exit_on_user_error
def main() -> None:
    """Prepare Megatron, check or measure, tell."""
    parser = build_parser()
    options, extra = parser.parse_known_args()
    for name in ("layers", "micro_batch_size", "micro_batches", "steps", "time_limit"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise UserError(f"{flag_of(name)} {value}: must be above 0")
    strangers = [word for word in extra if word.startswith("--") and "--kernel-" not in word]
    if strangers:
        raise UserError(f"{strangers[0]}: not known here; of Megatron's side only --kernel-*")
    from e2_common.provenance import provenance
    from e2_tools.evaluation.result_file import write_results

    if options.output:
        check_output(options.output)
    origin = provenance()
    as_single_process()
    on_cpu = prepare(options.device)
    model = PRESETS[options.preset]
    if options.correctness:
        from benchmarks.gpu import correctness

        rows = correctness.check(model, options, on_cpu)
        body: dict[str, Any] = {"correctness": rows}
        text = correctness.table(rows)
        failed = any(not row.get("passed", True) for row in rows)
    else:
        body = measure(model, options, extra, on_cpu)
        text, failed = table(body), False
    result = {
        "schema": SCHEMA,
        "label": f"{options.preset}, {options.device}",
        "preset": options.preset,
        "window": model.window,
        "device": device_name(on_cpu),
        "settings": {key: value for key, value in vars(options).items() if key != "output"},
        "provenance": origin,
        **body,
    }
    print(text)
    if options.output:
        write_results(options.output, result)
        if not options.correctness:
            from benchmarks.gpu.picture import draw_gpu_training

            draw_gpu_training(result).savefig(options.output.with_suffix(".png"), dpi=120)
    if failed:
        sys.exit(1)


def prepare(device: str) -> bool:
    """Install the CPU runtime where it is wanted, and the fixes; returns whether on the CPU.

    Raises:
        UserError: there is no CUDA device, or there is one and the CPU is wanted.
    """
    from megatron_patches.runtime import cpu
    from megatron_patches.runtime.prepare import prepare

    on_cpu = device == "cpu"
    if on_cpu != cpu.is_needed():
        hint = "hide it with CUDA_VISIBLE_DEVICES=''" if on_cpu else "try --device cpu"
        found = "a CUDA device is there" if on_cpu else "no CUDA device was found"
        raise UserError(f"--device {device}: {found}; {hint}")
    logging.disable(logging.WARNING)  # Megatron tells dozens of lines a model
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    return prepare()


def device_name(on_cpu: bool) -> str:
    """The GPU's name, or CPU."""
    import torch

    return "CPU" if on_cpu else torch.cuda.get_device_name()


def measure(
    model: Model, options: argparse.Namespace, extra: list[str], on_cpu: bool
) -> dict[str, Any]:
    """Run the plan.

    Returns:
        ``variants``, a row for each, and ``ratios`` of them.
    """
    import torch

    capacity = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    runs = plan(model, options, float(capacity))
    end = time.monotonic() + options.time_limit
    rows: list[dict[str, Any]] = []
    for index, run in enumerate(runs):
        now = time.monotonic()
        # What is left is shared alike; most of a variant's share is for its steps.
        deadline = now + (end - now) / (len(runs) - index) * 0.9
        limits = {"warm_up": options.warm_up, "rounds": options.steps, "deadline": deadline}
        limits["profiled"] = options.profile_steps
        print(f"{run['variant']}: {run['why']}", flush=True)
        names, measured = run_one(model, run, options, extra, limits, on_cpu)
        for name, seconds in zip(names, measured["seconds"], strict=True):
            rows.append(row(model, run, name, seconds, measured, options, on_cpu))
    return {"variants": rows, "ratios": ratios(rows, options.seed)}


def run_one(
    model: Model,
    run: dict[str, Any],
    options: argparse.Namespace,
    extra: list[str],
    limits: dict[str, Any],
    on_cpu: bool,
) -> tuple[list[str], dict[str, Any]]:
    """Measure one model; the names of its variants and what was measured."""
    if run["variant"] == "transformers":
        from benchmarks.gpu import transformers_run

        return ["transformers, SDPA, torch.compile"], transformers_run.measure(
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
        return ["stock Megatron, local layers"], measured
    changes = {"position_method": "e2", "max_scale": options.max_scale}
    measured = megatron_runs.measure(
        [*arguments, *extra],
        lambda plain: [dataclasses.replace(plain, **changes), None],
        False,
        limits,
        on_cpu,
    )
    return ["ours, E2", "ours, fixed RoPE"], measured


if __name__ == "__main__":
    main()
