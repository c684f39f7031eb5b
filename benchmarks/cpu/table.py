# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/cpu_training.py measured: a row a variant, the price of E2, a table."""

from typing import Any

import numpy as np

from benchmarks.cpu.paced import PRODUCT
from benchmarks.step_overhead import bootstrap

WARM_UP = 2  # rounds that are not counted
# Variant -> the same engine without E2.
WITHOUT_E2 = {
    "ours on Megatron, E2": "ours on Megatron, fixed RoPE",
    "ours on transformers, E2": "transformers, Trainer",
}


def summary(
    answers: dict[str, list[dict[str, float]]], dtype: str, tokens: int, flops: float, seed: int
) -> list[dict[str, Any]]:
    """A row for each variant.

    Args:
        answers: of :func:`measure`.
        dtype: bf16 or fp32.
        tokens: of a step.
        flops: a token.
        seed: of the bootstrap.
    """
    seconds = {
        name: np.array([step["seconds"] for step in steps[WARM_UP:]])
        for name, steps in answers.items()
    }
    peak = 2 * PRODUCT**3 / float(np.median(seconds.pop("")))
    first = next(iter(seconds.values()))
    rows = []
    for name, times in seconds.items():
        speed = tokens / float(np.median(times))
        rows.append(
            {
                "name": name,
                "dtype": dtype,
                "tokens_per_second": speed,
                "peak_tflops": peak / 1e12,
                "share_of_peak": speed * flops / peak,
                "ratio": float(np.median(first / times)),
                "interval": bootstrap(first / times, seed),
                "seconds": times.round(6).tolist(),
                "losses": [step["loss"] for step in answers[name]],
            }
        )
    return rows


def prices(rows: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """What E2 adds to a step of each engine, where its step without E2 was measured too.

    Args:
        rows: of :func:`summary`.
        seed: of the bootstrap.
    """
    found = []
    for with_e2, without in WITHOUT_E2.items():
        for dtype in dict.fromkeys(row["dtype"] for row in rows):
            pair = [
                np.array(row["seconds"])
                for name in (with_e2, without)
                for row in rows
                if (row["name"], row["dtype"]) == (name, dtype)
            ]
            if len(pair) == 2:
                ratio = pair[0] / pair[1]
                more = {"more": float(np.median(ratio)) - 1, "interval": bootstrap(ratio - 1, seed)}
                found.append({"name": with_e2, "without": without, "dtype": dtype, **more})
    return found


def sentence(price: dict[str, Any]) -> str:
    """A row of :func:`prices`, to read."""
    low, high = price["interval"]
    return (
        f"{price['dtype']}, a step of {price['name']}, beside {price['without']}: "
        f"{100 * price['more']:+.1f} % ({100 * low:+.1f} … {100 * high:+.1f} %)"
    )


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| training | | tokens/s | times as fast | 95 % interval | of the peak | losses |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        low, high = row["interval"]
        lines.append(
            f"| {row['name']} | {row['dtype']} | {row['tokens_per_second']:,.0f} "
            f"| {row['ratio']:.2f} | {low:.2f} … {high:.2f} | {100 * row['share_of_peak']:.0f} % "
            f"| {row['losses'][0]:.4f}, {row['losses'][-1]:.4f} |"
        )
    return "\n".join(lines)
