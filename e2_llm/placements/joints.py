# SPDX-License-Identifier: Apache-2.0
"""Skips at the joints of a window's own text: the ends of its sentences, or of its turns."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from e2_common.errors import UserError
from e2_common.files import read_text
from e2_llm.placements.base import Placement
from e2_llm.sampler import Draw, random_fractions, random_words

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FLAG = "--e2-sentence-ends"


class AtJoints(Placement):
    """A skip at every joint of the window; between two joints tokens stay neighbours.

    Behind k joints tokens are moved by k numbers from U{0..g L - R}, sorted, so that every set of
    skips that the room holds can be drawn. A window without a joint stays where it is.
    """

    def draw(self, scale: float, room: int, offset_word: int, word: int) -> Draw:
        """See :meth:`Placement.draw`; the offset is the farthest that the last token can be."""
        return Draw(scale, room, word, self.name)

    def places(
        self,
        draw: Draw,
        length: int,
        device: "torch.device | str | None" = None,
        joints: Sequence[int] = (),
    ) -> "Tensor":
        """See :meth:`Placement.places`."""
        import numpy as np
        import torch

        cuts = np.asarray(joints, dtype=np.int64)
        cuts = cuts[(cuts > 0) & (cuts < length)]
        moved = np.floor(np.sort(random_fractions(draw.word, len(cuts))) * (draw.offset + 1))
        shifts = np.concatenate(([0], moved)).astype(np.int64)  # [k + 1], of every piece
        tokens = np.arange(length)
        places = tokens + shifts[np.searchsorted(cuts, tokens, side="right")]
        return torch.from_numpy(places.astype(np.float32)).to(device)

    def describe(self, draw: Draw) -> str:
        """The scale."""
        return f"g = {draw.scale:g}"

    def example_joints(self, length: int, word: int) -> list[int]:
        """See :meth:`Placement.example_joints`; pieces have exponential lengths."""
        # Another stream than that of the skips.
        fractions = random_fractions(random_words(word, 1)[0], length)
        joints, last = [], 0
        for fraction in fractions:
            last += math.ceil(-math.log(1 - fraction) * self.apart) or 1
            if last >= length:
                break
            joints.append(last)
        return joints


class Sentences(AtJoints):
    """LongRecipe (arXiv 2409.00509; zhiyuanhubj/LongRecipe, ``FSProcessor.py``): sentences apart.

    A sentence ends with a token whose text does (:data:`FLAG` names others), and with its document.
    LongRecipe's code ends sentences at five ids of Llama 3 and gives every set of slots for the
    sentences alike. It keeps plain positions for the first 1 .. (R + 1) / 2 tokens of a window,
    within a sentence or not, and drops sentences that it takes for unimportant. Here every end of a
    sentence is a joint, and a window is continuous text.
    """

    name, title = "sentences", "skips at the ends of sentences (LongRecipe, arXiv 2409.00509)"
    help = "a random skip at every end of a sentence (LongRecipe's)"
    reads = ("sentence_ends",)
    joints = "sentences"
    apart = 25


class Turns(AtJoints):
    """SkipAlign (arXiv 2405.03939): a skip between the turns of a conversation.

    A turn ends where the loss mask of the dataset changes, as between an instruction and its
    response, and with its document. SkipAlign puts skips into instruction-following samples along
    their structure; its repository holds no code. Here every edge of a turn is a joint, none lies
    within a turn, and two turns of which both count, or neither does, are one.
    """

    name, title = "turns", "skips between turns (after SkipAlign, arXiv 2405.03939)"
    help = "a random skip wherever the loss mask changes (after SkipAlign)"
    joints = "turns"
    apart = 200


def read_ids(path: str) -> str:
    """Read a file of token ids, apart by white space.

    Args:
        path: of the file, or what this returned for it, as a checkpoint stores it.

    Returns:
        The ids as a JSON list, ascending, each once.

    Raises:
        UserError: it cannot be read, or holds anything else.
    """
    if path.startswith("["):
        return path
    if not Path(path).is_file():
        raise UserError(f"{FLAG} {path}: no such file")
    words = read_text(Path(path), FLAG).split()
    wrong = [word for word in words if not (word.isascii() and word.isdecimal())]
    if wrong:
        raise UserError(f"{FLAG} {path}: {wrong[0][:20]!r} is no token id; write ids alone")
    if not words:
        raise UserError(f"{FLAG} {path}: holds no token id")
    return json.dumps(sorted(set(map(int, words))))
