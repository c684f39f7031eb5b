# SPDX-License-Identifier: Apache-2.0
"""The picture of a measured run: throughput beside published anchors, and where the time goes."""

from typing import Any

from matplotlib.figure import Figure

from benchmarks.gpu.profile import CLASSES, OTHER

# Causal MFU of 989 TFLOP/s, of docs/performance.md.
ANCHORS = {"NVIDIA DGXC, H100, bf16": 0.556, "KempnerForge, one H200": 0.511}


def draw_gpu_training(result: dict[str, Any]) -> Figure:
    """Draw tokens a second, or MFU where it is known, and the profile.

    Args:
        result: of ``benchmarks/gpu_training.py``.
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = [row for row in result["variants"] if "tokens_per_second" in row]
    known = all(row["mfu_causal"] is not None for row in rows)
    values = [100 * row["mfu_causal"] if known else row["tokens_per_second"] for row in rows]
    labels = [f"{row['name']}\n{row['layers']} layers" for row in rows]
    left.barh(labels[::-1], values[::-1], color="#4477aa")
    for index, value in enumerate(values[::-1]):
        left.text(value, index, f" {value:.1f}" if known else f" {value:,.0f}", va="center")
    if known:
        for (name, anchor), style in zip(ANCHORS.items(), ("--", ":"), strict=True):
            left.axvline(100 * anchor, color="#aa3377", linestyle=style, label=name)
        left.legend(fontsize=8, loc="lower right")
    left.set_xlabel("causal MFU of 989 TFLOP/s, %" if known else "tokens a second")
    left.margins(x=0.25)
    profiles = [row for row in rows if row["profile"]][::-1]
    classes = [label for label, _ in CLASSES] + [OTHER, "idle"]
    for index, label in enumerate(classes):  # the same color for a class in every bar
        times = [_milliseconds(row["profile"]).get(label, 0.0) for row in profiles]
        before = [
            sum(_milliseconds(row["profile"]).get(other, 0.0) for other in classes[:index])
            for row in profiles
        ]
        names = [f"{row['name']}\n{row['layers']} layers" for row in profiles]
        color = "#dddddd" if label == "idle" else f"C{index}"
        if any(times):
            right.barh(names, times, left=before, color=color, label=label)
    figure.legend(
        *right.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncol=6
    )
    right.set_xlabel("milliseconds a step, by class of kernel")
    figure.suptitle(f"{result['preset']}, {result['window']} tokens, {result['device']}")
    return figure


def _milliseconds(profile: dict[str, Any]) -> dict[str, float]:
    return profile["milliseconds"] | {"idle": profile["idle_milliseconds"]}
