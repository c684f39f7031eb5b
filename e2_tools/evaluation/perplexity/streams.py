# SPDX-License-Identifier: Apache-2.0
"""What windows are cut from: each document for itself, or all of them one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class Stream:
    """A run of tokens that windows may begin and end anywhere in.

    Attributes:
        tokens: ids [n].
        owner: number [n] of the document that each token is from.
        key: whether each token [n] is a key token; None if nobody chose any.
    """

    tokens: Tokens
    owner: NDArray[np.int64]
    key: NDArray[np.bool_] | None = None


def streams_of(
    documents: Sequence[Tokens], *, joined: bool, keys: Sequence[NDArray[np.bool_]] | None = None
) -> list[Stream]:
    """Make streams of documents.

    Args:
        documents: token ids.
        joined: one stream of all, nothing between them; else a stream of each.
        keys: which tokens of each document are key tokens, if that was found out.
    """
    if joined:
        owner = np.repeat(np.arange(len(documents)), [len(tokens) for tokens in documents])
        return [Stream(np.concatenate(documents), owner, keys and np.concatenate(keys))]
    return [
        Stream(tokens, np.broadcast_to(np.int64(number), tokens.shape), keys and keys[number])
        for number, tokens in enumerate(documents)
    ]
