# SPDX-License-Identifier: Apache-2.0
"""The prompt of figure 6: three key-value pairs inside a long text, and a question at its end.

Pairs and question are those of the E2-LLM paper's appendix A.2 (arXiv 2401.06951); a seed draws
other UUIDs. As there, the second pair is asked for.
"""

import json
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from e2_common.errors import UserError
from e2_common.hf_tokenizer import prompt_ids, prompt_spans

PAIRS = {
    "2a8d601d-1d69-4e64-9f90-8ad825a74195": "bb3ba2a5-7de8-434b-a86e-a88bb9fa7289",
    "9f4a92b9-5f69-4725-ba1e-403f08dea695": "703a7ce5-f17f-4e6d-b895-5836ba5ec71c",
    "52a9c80c-da51-4fc9-bf70-4a4901bc2ac3": "b2f8ea3d-4b1b-49e0-a141-b9823991ebeb",
}
TELL = "Extract the value corresponding to the specified key in the JSON object below. "
ASK = 'What is the value of key "{key}"?'
Span = tuple[int, int]  # tokens begin <= i < end


@dataclass(frozen=True)
class Prompt:
    """A prompt of one window.

    Attributes:
        ids: token ids, BOS included where the tokenizer adds one.
        value: the UUID that answers the question; None if nothing is asked.
        value_span: where it stands, in tokens.
        pair_spans: where the three pairs stand.
        following: token ids that go on with the text, if nothing is asked.
    """

    ids: list[int]
    value: str | None
    value_span: Span | None
    pair_spans: list[Span]
    following: list[int] = field(default_factory=list)


def draw_pairs(seed: int | None) -> dict[str, str]:
    """Return three pairs of UUIDs: the paper's without a seed."""
    if seed is None:
        return PAIRS
    source = random.Random(seed)
    numbers = [str(uuid.UUID(int=source.getrandbits(128), version=4)) for _ in range(6)]
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


def plain_prompt(tokenizer: Any, text: str, room: int, following: int) -> Prompt:
    """Return the beginning of a text, where nothing is asked.

    Args:
        tokenizer: of transformers.
        text: the long text.
        room: in tokens, of the prompt.
        following: how many tokens of the text follow it.

    Raises:
        UserError: the text is too short, or there is no room for a prompt.
    """
    if room < 1:
        raise UserError(f"leaves no token before the {following} of --max-new-tokens; lower those")
    ids = prompt_ids(tokenizer, text)
    if len(ids) < room + following:
        raise UserError(f"--text: has {len(ids)} tokens; give a longer text or smaller --windows")
    return Prompt(ids[:room], None, None, [], ids[room : room + following])


def build_prompt(
    tokenizer: Any, text: str, room: int, depth: float, pairs: dict[str, str], suffix: str = ""
) -> Prompt:
    """Return the prompt that fills ``room`` tokens with the beginning of a text.

    Args:
        tokenizer: a fast transformers tokenizer, which knows where its tokens stand.
        text: the long text.
        room: in tokens, the answer not included.
        depth: where the pairs stand in the text, in percent of its characters.
        pairs: from :func:`draw_pairs`.
        suffix: behind the question, for instance the beginning of an answer; may name ``{key}``.

    Raises:
        UserError: the text is too short, or the room too small for pairs and question.
    """
    key, value = list(pairs.items())[1]
    told, asked = TELL + json.dumps(pairs), ASK.format(key=key) + suffix.replace("{key}", key)

    def tokens(filler: str) -> tuple[str, list[int], list[Span]]:
        cut = round(len(filler) * depth / 100)
        prompt = f"{filler[:cut]}\n\n{told}\n\n{filler[cut:]}\n\n{asked}"
        return prompt, *prompt_spans(tokenizer, prompt)

    ends = [end for _, end in prompt_spans(tokenizer, text)[1]]
    spare = room - len(tokens("")[1])
    if spare < 0:
        raise UserError(
            f"a window with {room} tokens before the answer is too small for the three pairs and "
            "the question; use a larger one with --windows"
        )
    if spare > len(ends):
        raise UserError(
            f"--text: has {len(ends)} tokens, a prompt of {room} needs {spare}; give a longer text "
            "or smaller --windows"
        )
    while True:
        prompt, ids, offsets = tokens(text[: ends[spare - 1]] if spare else "")
        if len(ids) <= room:
            break
        spare = max(0, spare - (len(ids) - room))
    begin = prompt.rindex(told)
    starts = [prompt.index(f'"{name}"', begin) for name in pairs]
    stops = [prompt.index(f'"{pairs[name]}"', begin) + len(value) + 2 for name in pairs]
    at = prompt.index(value, begin)
    return Prompt(
        ids,
        value,
        _span(offsets, at, at + len(value)),
        [_span(offsets, *place) for place in zip(starts, stops, strict=True)],
    )


def _span(offsets: Sequence[Span], begin: int, end: int) -> Span:
    """The tokens that have a character in common with ``begin <= c < end``."""
    inside = [n for n, (first, last) in enumerate(offsets) if first < end and last > begin]
    return inside[0], inside[-1] + 1
