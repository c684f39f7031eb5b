# SPDX-License-Identifier: Apache-2.0
"""What the tensors of a batch say of its windows: where documents begin, and where joints lie."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from e2_common.errors import UserError

JOINTS = "e2_joints"  # of a batch: kind -> [b, s], not 0 where a joint lies


def documents_of(position_ids: Tensor, rows: int) -> list[list[int]] | None:
    """The lengths of the documents of each window, from position ids that begin anew with each.

    So collators without padding say which documents a row holds.

    Args:
        position_ids: [b or 1, s].
        rows: b.

    Returns:
        None if every window is one document.

    Raises:
        UserError: position ids neither go on nor begin anew at 0.
    """
    found = [_lengths(row) for row in position_ids.cpu().numpy()]
    if all(len(lengths) == 1 for lengths in found):
        return None
    return found * rows if len(found) == 1 else found


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
