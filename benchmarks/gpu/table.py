# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/gpu_training.py measured: rows, ratios of the variants, a table."""

import argparse
import contextlib
from typing import Any

import numpy as np

from benchmarks.gpu.models import GIB, PEAK, cut
from benchmarks.step_overhead import bootstrap
from e2_tools.planning.models import Model


def row(
    model: Model,
    run: dict[str, Any],
    name: str,
    seconds: list[float],
    measured: dict[str, Any],
    options: argparse.Namespace,
    on_cpu: bool,
) -> dict[str, Any]:
    """What the JSON holds of a variant."""
    known: dict[str, Any] = {
        "name": name,
        "layers": run["layers"],
        "why": run["why"],
        "kernels": measured["kernels"],
        "peak_gib": None if on_cpu else round(measured["peak_bytes"] / GIB, 2),
        "profile": None if name == "ours, fixed RoPE" else measured["profile"],
        "seconds": [round(value, 6) for value in seconds],
    }
    if not seconds:
        return {**known, "note": "the time limit came before a step was counted"}
    if len(seconds) < options.steps:
        known["note"] = f"{len(seconds)} of {options.steps} steps within the time limit"
    tokens = options.micro_batch_size * options.micro_batches * model.window
    speed = tokens / float(np.median(seconds))
    sizes = cut(model.sizes, run["layers"])

    def mfu(causal: bool) -> float | None:
        return None if on_cpu else speed * sizes.flops(model.window, causal) / PEAK

    return {
        **known,
        "median_seconds": float(np.median(seconds)),
        "tokens_per_second": speed,
        "mfu_causal": mfu(True),
        "mfu_full": mfu(False),
    }


def ratios(rows: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """E2 against each other variant of the same number of layers, by the time of a step.

    Steps of E2 and of fixed RoPE ran in turn, so theirs is a median of paired ratios with a
    bootstrap interval of 95 %; the others ran after each other.
    """
    found = []
    for ours in rows:
        if ours["name"] != "ours, E2" or not ours["seconds"]:
            continue
        for other in rows:
            if other is ours or other["layers"] != ours["layers"] or not other["seconds"]:
                continue
            ratio = {"of": other["name"], "layers": ours["layers"]}
            if other["name"] == "ours, fixed RoPE":
                paired = np.divide(
                    *(np.array(r["seconds"][: len(other["seconds"])]) for r in (ours, other))
                )
                interval = bootstrap(paired, seed)
                found.append({**ratio, "time": float(np.median(paired)), "interval": interval})
            else:
                time_ratio = ours["median_seconds"] / other["median_seconds"]
                found.append({**ratio, "time": time_ratio, "interval": None})
    return found


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    lines = [
        "| | layers | step | tokens/s | MFU causal | MFU full | peak memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]

    def percent(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f} %"

    for variant in result["variants"]:
        if "tokens_per_second" not in variant:
            note = variant["note"] if "note" in variant else f"failed: {variant['failed']}"
            lines.append(f"| {variant['name']} | {variant['layers']} | {note} | | | | |")
            continue
        peak = "" if variant["peak_gib"] is None else f"{variant['peak_gib']:.1f} GiB"
        lines.append(
            f"| {variant['name']} | {variant['layers']} | "
            f"{1000 * variant['median_seconds']:.1f} ms | {variant['tokens_per_second']:,.0f} | "
            f"{percent(variant['mfu_causal'])} | {percent(variant['mfu_full'])} | {peak} |"
        )
    lines.append("")
    for ratio in result["ratios"]:
        between = ""
        if ratio["interval"]:
            low, high = (f"{100 * (value - 1):+.2f} %" for value in ratio["interval"])
            between = f" ({low} … {high})"
        lines.append(
            f"E2's step takes {ratio['time']:.4f} times that of {ratio['of']}{between}, "
            f"{ratio['layers']} layers"
        )
    for variant in result["variants"]:
        if variant.get("failed"):
            continue
        kernels = ", ".join(f"{part} {name}" for part, name in variant["kernels"].items())
        lines.append(f"kernels of {variant['name']}: {kernels}")
        with contextlib.suppress(TypeError):
            classes = variant["profile"]["milliseconds"]
            times = ", ".join(f"{label} {time:.1f}" for label, time in classes.items())
            idle = variant["profile"]["idle_milliseconds"]
            lines.append(f"milliseconds of {variant['name']}: {times}, idle {idle:.1f}")
        if "note" in variant:
            lines.append(f"note on {variant['name']}: {variant['note']}")
    return "\n".join(lines)
