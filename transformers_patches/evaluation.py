# SPDX-License-Identifier: Apache-2.0
"""The loss of true windows of W tokens, each at the scale that W is served with."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from e2_llm.window_loss import WindowLoss
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
) -> WindowLoss:
    """The mean losses of a token, over all processes.

    What the context gives is not measured of windows with ``position_ids``, whose halves may begin
    within a document, and of odd ones.

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
    halves = window % 2 == 0 and "position_ids" not in samples[0]
    total = torch.zeros(6, dtype=torch.float64, device=device)  # loss and tokens, of each mean
    model.eval()
    try:
        with positions.window(window):
            for number in range(rank, len(samples), world):
                batch = collate([samples[number]])
                found = _sums(model, batch, 0, window)
                alone = _sums(model, batch, window // 2, window)[2:] if halves else found[2:]
                total += torch.cat((found, alone)).to(device)
    finally:
        model.train(training)
    if world > 1:
        torch.distributed.all_reduce(total)
    mean, last, alone = (total[0::2] / total[1::2]).tolist()
    return WindowLoss(mean, last, alone if halves else None)


def _sums(model: nn.Module, batch: Mapping[str, Any], first: int, window: int) -> Tensor:
    """Losses and tokens of a window from token ``first`` on: of all, of its last quarter; [4]."""
    device = next(model.parameters()).device
    names = ("input_ids", "position_ids")
    given = {name: batch[name][:, first:].to(device) for name in names if name in batch}
    labels = batch.get("shift_labels")
    if labels is None:  # that of the token behind the window is not known
        labels = nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
    labels = labels[0, first:].to(device)
    logits = model(**given, use_cache=False).logits[0].float()
    losses = nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    counted, quarter = labels != IGNORED, max(1, window // 4)
    sums = (losses.sum(), counted.sum(), losses[-quarter:].sum(), counted[-quarter:].sum())
    return torch.stack([value.double() for value in sums])
