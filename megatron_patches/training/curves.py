# SPDX-License-Identifier: Apache-2.0
"""Curves and histograms of ours: in TensorBoard and, where a run has it, in Weights & Biases."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def write_scalars(writer: Any, values: Mapping[str, float], iteration: int) -> None:
    """Add a point to each curve.

    Args:
        writer: TensorBoard's ``SummaryWriter``; Megatron logs nowhere without one.
        values: by the name of the curve.
        iteration: the step of the points.
    """
    for name, value in values.items():
        writer.add_scalar(name, value, iteration)
    wandb = _wandb()
    if wandb and values:
        wandb.log(dict(values), iteration)


def write_histogram(
    writer: Any, name: str, values: np.ndarray, bins: np.ndarray, iteration: int
) -> None:
    """Add a histogram.

    Args:
        writer: TensorBoard's ``SummaryWriter``.
        name: of the histogram.
        values: what is counted, [n].
        bins: edges [bins + 1].
        iteration: its step.
    """
    writer.add_histogram(name, values, iteration, bins=bins)
    wandb = _wandb()
    if wandb:
        counted = np.histogram(values, bins)
        wandb.log({name: wandb.Histogram(np_histogram=counted)}, iteration)


def _wandb() -> Any:
    """The module ``wandb`` on the one rank where Megatron has started it, else None."""
    from megatron.training import get_wandb_writer

    return get_wandb_writer()
