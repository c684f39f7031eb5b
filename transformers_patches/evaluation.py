# SPDX-License-Identifier: Apache-2.0
"""The loss of true windows of W tokens, each at the scale that W is served with."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from transformers_patches.collator import IGNORED, WindowCollator
from transformers_patches.install import E2Positions


@torch.no_grad()
def window_loss(
    model: nn.Module,
    positions: E2Positions,
    samples: Sequence[Mapping[str, Any]],
    window: int,
    rank: int = 0,
    world: int = 1,
) -> float:
    """The mean loss of a token, over all processes.

    Args:
        model: with the rotary module of ``positions``; is left in the mode that it is in.
        positions: of the training.
        samples: windows of W tokens, as :class:`WindowCollator` takes them.
        window: W, in tokens.
        rank: of this process, which takes every ``world``-th sample.
        world: number of processes.
    """
    device = next(model.parameters()).device
    collate, training = WindowCollator(), model.training
    total = torch.zeros(2, dtype=torch.float64, device=device)  # loss, tokens
    model.eval()
    try:
        with positions.window(window):
            for number in range(rank, len(samples), world):
                batch = collate([samples[number]])
                batch = {
                    name: tensor.to(device)
                    for name, tensor in batch.items()
                    if isinstance(tensor, torch.Tensor)
                }
                # What transformers counts itself: of labels that it shifts, the first is none.
                counted = batch.get("shift_labels", batch["labels"][:, 1:])
                tokens = (counted != IGNORED).sum()
                if tokens:
                    loss = model(**batch, use_cache=False).loss
                    total += torch.stack((loss.double() * tokens, tokens.double()))
    finally:
        model.train(training)
    if world > 1:
        torch.distributed.all_reduce(total)
    return (total[0] / total[1]).item()
