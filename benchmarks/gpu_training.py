# SPDX-License-Identifier: Apache-2.0
"""Training speed on a GPU: E2 in Megatron beside stock Megatron and transformers.

    python benchmarks/gpu_training.py --correctness            loss and gradients of every kernel
    python benchmarks/gpu_training.py --output speed.json      then measure; also speed.png

Measured are: ours with E2; ours with fixed RoPE (the price of E2); stock Megatron's local layers;
transformers' Llama with SDPA and torch.compile. Each trains a Llama of the preset's shape in bf16
with AdamW on fp32 master weights. Every step is timed alone after a warm-up, the median counts.
All at the same number of layers, the largest that fits for each; if ours alone has room for more,
it is measured at that number as well. Each runs in a process of its own, and the JSON is written
after each: a variant that fails is a row with the reason, one that does not fit is tried again with
fewer layers, and the same command goes on behind what the file holds.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
from benchmarks.gpu.models import PRESETS
from benchmarks.gpu.plan import plan
from benchmarks.gpu.session import measure_all
from benchmarks.gpu.table import table
from benchmarks.gpu.variant import check_device, measure_alone, prepare_megatron
from e2_common.errors import UserError, exit_on_user_error
from e2_common.outputs import OutputFile, check_output
from e2_tools.arguments import command_parser, flag_of
from megatron_patches.kernels.registry import PARTS
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
        "--parts",
        nargs="+",
        choices=[part.name for part in PARTS],
        help="whose kernels --correctness checks (default: all)",
    )
    add(
        "--output", type=OutputFile, metavar="FILE.json", help="write all; a picture lies beside it"
    )
    add("--alone", type=Path, help=argparse.SUPPRESS)  # of the process of one variant
    add("--alone-run", type=json.loads, help=argparse.SUPPRESS)
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
    model = PRESETS[options.preset]
    as_single_process()
    if options.alone:
        measure_alone(model, options, extra, options.alone, options.alone_run)
        return
    from e2_common.provenance import provenance

    on_cpu = check_device(options.device)
    result = {
        "schema": SCHEMA,
        "label": f"{options.preset}, {options.device}",
        "preset": options.preset,
        "window": model.window,
        "device": device_name(on_cpu),
        "settings": settings(options, extra),
        "provenance": provenance(),
    }
    if options.correctness:
        prepare_megatron()
        from benchmarks.gpu import correctness

        result["correctness"] = correctness.check(
            model, options, on_cpu, lambda rows: write(options.output, {**result, **rows})
        )
        print(correctness.table(result["correctness"]))
        if any(not row.get("passed", True) for row in result["correctness"]):
            sys.exit(1)
        return
    runs = plan(model, options, memory(on_cpu))
    rows = finished_before(options.output, result)
    result |= measure_all(
        runs, options, rows, lambda body: write(options.output, {**result, **body})
    )
    print(table(result))
    if options.output:
        from benchmarks.gpu.picture import draw_gpu_training

        draw_gpu_training(result).savefig(options.output.with_suffix(".png"), dpi=120)


def settings(options: argparse.Namespace, extra: list[str]) -> dict[str, Any]:
    """What makes two measurements the same."""
    apart = ("output", "time_limit", "variants", "alone", "alone_run")
    return {k: v for k, v in vars(options).items() if k not in apart} | {"megatron": extra}


def memory(on_cpu: bool) -> float:
    """Bytes of the device; this process takes none of them."""
    import torch

    if on_cpu:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return float(torch.cuda.get_device_properties(0).total_memory)


def device_name(on_cpu: bool) -> str:
    """The GPU's name, or CPU."""
    import torch

    return "CPU" if on_cpu else torch.cuda.get_device_name()


def finished_before(output: Path | None, result: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that the file holds, without those that failed.

    Raises:
        UserError: it holds something else, or cannot be written.
    """
    if output is None:
        return []
    check_output(output)
    if not output.exists() or not output.stat().st_size:
        return []
    try:
        before = json.loads(output.read_text())
        same = all(before[key] == result[key] for key in ("schema", "device", "settings"))
        rows = [row for row in before["variants"] if not row.get("failed")]
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise UserError(
            f"--output: {output} holds no measurement of this device with these settings; "
            "name another, or remove it"
        )
    return rows


def write(output: Path | None, result: dict[str, Any]) -> None:
    """Write what there is, if it is wanted."""
    from e2_tools.evaluation.result_file import write_results

    if output:
        write_results(output, result)


if __name__ == "__main__":
    main()
