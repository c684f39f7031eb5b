# SPDX-License-Identifier: Apache-2.0
"""Key tokens as spans of the text, so that models with other tokenizers find them.

A span is (begin, end) in characters of the text.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2_common.errors import UserError

Spans = list[tuple[int, int]]


def encoded(tokenizer: Any, text: str) -> tuple[list[int], Spans]:
    """Return the ids of a text, without special tokens, and the place of each in the text.

    Raises:
        UserError: the tokenizer does not tell places.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"{tokenizer.name_or_path}: this tokenizer does not say where in the text its tokens "
            "stand, which --key-tokens needs; save a fast one (tokenizer.json)"
        )
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return found.input_ids, [(begin, end) for begin, end in found.offset_mapping]


def identity(tokenizer: Any) -> str:
    """Return what tells tokenizers apart: the SHA-256 of vocabulary and BOS."""
    known = [sorted(tokenizer.get_vocab().items()), tokenizer.bos_token_id]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def merged(spans: Iterable[tuple[int, int]]) -> Spans:
    """Join each span to the one before if it begins where that one ends."""
    joined: Spans = []
    for begin, end in spans:
        if joined and joined[-1][1] == begin:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return joined


def within(tokens: Spans, spans: Spans) -> NDArray[np.bool_]:
    """Tell which tokens lie wholly within a span, [tokens].

    Both are in the order of the text. A token that crosses the end of a span is outside.
    """
    inside = np.zeros(len(tokens), dtype=bool)
    number = 0
    for token, (begin, end) in enumerate(tokens):
        # A span is done with once a token that does not begin before it ends behind it.
        while number < len(spans) and begin >= spans[number][0] and end > spans[number][1]:
            number += 1
        if number == len(spans):
            break
        inside[token] = begin >= spans[number][0]
    return inside
