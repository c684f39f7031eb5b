# SPDX-License-Identifier: Apache-2.0
"""What the tensors of a batch say of its windows: where documents begin, and where joints lie."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from e2_common.errors import UserError

JOINTS = "e2_joints"  # of a batch: kind -> [b, s], not 0 where a joint lies


class Documents(NamedTuple):
    """The parts of the windows of a batch.

    Attributes:
        lengths: of the parts of each window, in tokens; each part is placed by itself.
        apart: whether some window holds several documents, which must not see each other. Padding
            on the left is a part, yet no document.
    """

    lengths: list[list[int]]
    apart: bool


def documents_of(
    position_ids: Tensor | None, attention_mask: Tensor | None, rows: int, length: int
) -> Documents | None:
    """What a batch says of the documents of its windows.

    Position ids that begin anew with each document tell where they lie, as collators without
    padding have them. A mask tells of padding on the left; that on the right needs no place of its
    own, as nothing that counts follows it.

    Args:
        position_ids: [b or 1, s].
        attention_mask: [b, s], 0 where padding lies; of another shape it says nothing.
        rows: b.
        length: s.

    Returns:
        None if every window is one document from its first token on.

    Raises:
        UserError: position ids neither go on nor begin anew at 0.
    """
    padding = [0] * rows
    if attention_mask is not None and attention_mask.shape == (rows, length):
        before = (attention_mask.cumsum(-1) == 0).sum(-1).tolist()
        padding = [count % length for count in before]  # nothing but padding is one part
    if position_ids is None:
        texts = [[length - count] for count in padding]
    else:
        ids = np.broadcast_to(position_ids.cpu().numpy(), (rows, length))
        texts = [_lengths(row[count:]) for row, count in zip(ids, padding, strict=True)]
    apart = any(len(lengths) > 1 for lengths in texts)
    if not apart and not any(padding):
        return None
    parts = [[count] * (count > 0) + own for count, own in zip(padding, texts, strict=True)]
    return Documents(parts, apart)


def _lengths(row: np.ndarray) -> list[int]:
    begins = np.flatnonzero(np.diff(row, prepend=row[0] - 2) != 1)
    if row[begins].any():
        raise UserError(
            f"position_ids jump to {int(row[begins].max())}: E2-LLM places the tokens itself; "
            "leave position_ids out, or have them begin at 0 with every document"
        )
    return np.diff(begins, append=len(row)).tolist()


def joints_of(joints: Mapping[str, Tensor]) -> list[dict[str, Sequence[int]]]:
    """The joints of each window.

    Args:
        joints: kind -> [b, s], not 0 where a joint lies.

    Returns:
        For each window kind -> its joints, ascending.
    """
    tables = {kind: marks.cpu().numpy() for kind, marks in joints.items()}
    rows = len(next(iter(tables.values()))) if tables else 0
    return [
        {kind: np.flatnonzero(marks[row]) for kind, marks in tables.items()} for row in range(rows)
    ]
