# SPDX-License-Identifier: Apache-2.0
"""The passkey prompt: a number told once in a long meaningless text, asked for at its end.

The wording is that of Mohtashami and Jaggi (2023, arXiv 2305.16300), appendix, to the character.
"""

import random
import re
from typing import Any

from megatron_patches.errors import UserError

TASK = (
    "There is an important info hidden inside a lot of irrelevant text. "
    "Find it and memorize them. I will quiz you about the important information there."
)
FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
KEY = "The pass key is {key}. Remember it. {key} is the pass key."
QUESTION = "What is the pass key? The pass key is"
LARGEST_KEY = 50_000
MAX_NEW_TOKENS = 10
SPARE_TOKENS = 8  # a filler cut elsewhere, or another key, may take a few tokens more


def build_prompt(filler_length: int, depth: float, key: int) -> str:
    """Return the prompt: five lines, of which the second and fourth are filler.

    Args:
        filler_length: characters of both fillers together.
        depth: which share of them stands before the key, in percent.
        key: the number to find.
    """
    before = round(filler_length * depth / 100)
    lines = (
        TASK,
        _filler(before),
        KEY.format(key=key),
        _filler(filler_length - before),
        QUESTION,
    )
    return "\n".join(lines)


def draw_key(seed: int, window: int, depth: float, trial: int) -> int:
    """Draw a key, 1 to 50,000, that depends on nothing but these four numbers."""
    return random.Random(f"{seed}/{window}/{depth:g}/{trial}").randint(1, LARGEST_KEY)


def fill_window(tokenizer: Any, window: int) -> int:
    """Return the most characters of filler with which prompt and answer fit into a window.

    Args:
        tokenizer: a transformers tokenizer.
        window: in tokens.

    Raises:
        UserError: the window is too small for the prompt without filler.
    """
    room = window - MAX_NEW_TOKENS - SPARE_TOKENS

    def fits(length: int) -> bool:
        return len(tokenizer(build_prompt(length, 50, LARGEST_KEY)).input_ids) <= room

    if not fits(0):
        raise UserError(
            f"--windows {window}: too small for a passkey prompt without any filler; use a larger"
        )
    below, above = 0, 256
    while fits(above):
        below, above = above, 2 * above
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if fits(middle) else (below, middle)
    return below


def is_right(answer: str, key: int) -> bool:
    """Whether the first number of an answer is the key."""
    number = re.search(r"\d+", answer)
    return number is not None and int(number[0]) == key


def _filler(length: int) -> str:
    repeated = f"{FILLER} " * (length // len(FILLER) + 1)
    return repeated[:length]
