# SPDX-License-Identifier: Apache-2.0
"""The type that a model's weights are read in, where the command line leaves it open.

What a CPU says of itself does not tell which type is faster: bf16 takes a fifth of the time of fp32
on some with AVX512-BF16, and twice of it on others. So a product of the model's own shape is timed.
"""

import argparse
import json
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn.functional import linear

from e2_llm.window import Config
from e2_tools.evaluation.arguments import AUTO_DTYPE

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SMALL = 2**18  # entries of a matrix: below, nothing is to be won, and timing is chance
LARGEST = 4096  # rows and columns that are timed of a larger matrix
TOKENS = {"cpu": 256}
MANY_TOKENS = 4096  # of other devices
MARGIN = 1.3  # how much faster bf16 has to be, to be worth its rounding
REPEATS = 5


class Choice(NamedTuple):
    """A type, and why, in words; without a reason it was asked for."""

    dtype: str
    reason: str = ""


def choose_dtype(args: argparse.Namespace, config: Config, device: torch.device) -> Choice:
    """Return the type for a command line.

    ``auto`` goes on with that of the results that a run takes up again; else it is what
    :func:`faster` finds.

    Args:
        args: with ``--dtype``, and perhaps ``--output`` and ``--resume``.
        config: the dict of the model's ``config.json``.
        device: where it runs.
    """
    if args.dtype != AUTO_DTYPE:
        return Choice(args.dtype)
    if before := _before(args):
        return Choice(before, f"as {args.output} has it")
    return faster(config, device)


def _before(args: argparse.Namespace) -> str | None:
    """The type of the results that are to be gone on with; whoever reads them finds mistakes."""
    path: Path | None = getattr(args, "output", None)
    if path is None or not getattr(args, "resume", True):  # some always go on
        return None
    try:
        found = json.loads((path / "settings.json" if path.is_dir() else path).read_bytes())
    except (OSError, ValueError):
        return None
    dtype = found.get("dtype") if isinstance(found, dict) else None
    return dtype if dtype in DTYPES else None


def faster(config: Config, device: torch.device) -> Choice:
    """Return bf16 if it multiplies clearly faster than fp32 here, else fp32.

    Args:
        config: the dict of the model's ``config.json``; its widths are used.
        device: where it runs.
    """
    width, inner = (config.get(name) for name in ("hidden_size", "intermediate_size"))
    if not isinstance(width, int):
        return Choice("fp32", "its config has no hidden_size")
    inner = inner if isinstance(inner, int) else 4 * width
    if width * inner < SMALL:
        return Choice("fp32", "a small model gains nothing from bf16")
    tokens = TOKENS.get(device.type, MANY_TOKENS)
    return by_product(tokens, min(width, LARGEST), min(inner, LARGEST), device)


def by_product(tokens: int, width: int, inner: int, device: torch.device) -> Choice:
    """Return bf16 if a product [tokens, width] x [width, inner] is clearly faster in it, else fp32.

    Args:
        tokens: rows.
        width: summed over.
        inner: columns.
        device: where it is timed.
    """
    spent = _milliseconds(tokens, width, inner, device)
    told = ", ".join(f"{name} {taken:.3g} ms" for name, taken in spent.items())
    chosen = "bf16" if MARGIN * spent["bf16"] < spent["fp32"] else "fp32"
    return Choice(chosen, f"a product of the model's shape takes {told}")


@torch.inference_mode()
def _milliseconds(tokens: int, width: int, inner: int, device: torch.device) -> dict[str, float]:
    """The least time in milliseconds of a product [tokens, width] x [width, inner], by type."""
    kinds = {
        name: (
            torch.ones(tokens, width, dtype=kind, device=device),
            torch.ones(inner, width, dtype=kind, device=device),
        )
        for name, kind in DTYPES.items()
    }
    least = dict.fromkeys(kinds, float("inf"))
    for number in range(1 + REPEATS):  # the first is to warm up; in turns, so a lull helps both
        for name, (states, weights) in kinds.items():
            started = time.perf_counter()
            linear(states, weights)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            taken = 1e3 * (time.perf_counter() - started)
            least[name] = min(least[name], taken) if number else least[name]
    return least
