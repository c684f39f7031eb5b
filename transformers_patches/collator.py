# SPDX-License-Identifier: Apache-2.0
"""Windows to batches, with the label of a window's last token and with joints."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from e2_common.errors import UserError
from transformers_patches.batch import JOINTS

TENSORS = ("input_ids", "labels", "shift_labels", "position_ids")
IGNORED = -100  # a label that does not count, as transformers has it


class WindowCollator:
    """Stacks windows of equal length, for ``transformers.Trainer`` and loops like it.

    A sample has ``input_ids`` [s] and ``labels`` [s]. With ``shift_labels`` [s], the label of each
    position itself, ``labels`` may be missing: a window whose following token is known then trains
    on s labels, where transformers' own shift leaves s - 1. ``position_ids`` [s] that begin at 0
    with every document keep documents apart. ``e2_joints``, kind -> [s], says where placements such
    as ``sentences`` may cut. Any other collator will do where no placement needs joints.
    """

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch of ``input_ids``, ``labels`` and what else the samples have.

        Raises:
            UserError: windows of several lengths, or without labels.
        """
        lengths = {len(sample["input_ids"]) for sample in samples}
        if len(lengths) != 1:
            raise UserError(
                f"windows of {min(lengths)} to {max(lengths)} tokens in a batch; cut them alike, "
                "or use a collator that pads"
            )
        names = [name for name in TENSORS if name in samples[0]]
        batch: dict[str, Any] = {name: _stacked(samples, name) for name in names}
        if "labels" not in batch:  # which make a model compute a loss at all
            if "shift_labels" not in batch:
                raise UserError(
                    "windows without labels: give labels or shift_labels; a Trainer drops the "
                    "latter unless remove_unused_columns=False"
                )
            batch["labels"] = batch["shift_labels"]
        if JOINTS in samples[0]:
            kinds = samples[0][JOINTS]
            batch[JOINTS] = {
                kind: torch.stack([torch.as_tensor(sample[JOINTS][kind]) for sample in samples])
                for kind in kinds
            }
        return batch


def _stacked(samples: Sequence[Mapping[str, Any]], name: str) -> Tensor:
    return torch.stack([torch.as_tensor(sample[name], dtype=torch.long) for sample in samples])
