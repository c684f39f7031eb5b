# SPDX-License-Identifier: Apache-2.0
"""The tokenizer in a Hugging Face folder."""

from pathlib import Path
from typing import Any

from e2_common.errors import UserError, brief

_ANY_LENGTH = 10**12  # tokens; corpora and evaluations have long texts on purpose: no warning


def load_hf_tokenizer(folder: str | Path, flag: str = "") -> Any:
    """Load a tokenizer with transformers, from local files only.

    Code that the folder brings is not run, and nobody is asked whether to run it.

    Args:
        folder: that holds it.
        flag: of the command line that named it, for the message.

    Raises:
        UserError: it is missing or broken, or needs code of its own.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # each kind of tokenizer fails in its own way
        named = f"{flag} {folder}" if flag else folder
        raise UserError(
            f"{named}: no tokenizer that transformers can load ({brief(error)})"
        ) from error
    tokenizer.model_max_length = _ANY_LENGTH
    return tokenizer


def prompt_ids(tokenizer: Any, text: str, *, special: bool = True) -> list[int]:
    """Return the token ids of a text that a model goes on with.

    Some tokenizers, such as those of a fine-tuning, put an EOS behind a text: a model would answer
    behind the end of the text. What they put before it, a BOS, stays.

    Args:
        tokenizer: a transformers tokenizer.
        text: any.
        special: whether it puts anything around the text; a chat template has its own BOS.
    """
    ids = tokenizer(text, add_special_tokens=special).input_ids
    behind = _added_behind(tokenizer) if special else 0
    return ids[: len(ids) - behind]


def prompt_spans(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Return :func:`prompt_ids`, and where each token stands in the text, first and last character.

    Args:
        tokenizer: a fast transformers tokenizer.
        text: any.
    """
    encoded = tokenizer(text, return_offsets_mapping=True)
    count = len(encoded.input_ids) - _added_behind(tokenizer)
    return encoded.input_ids[:count], encoded.offset_mapping[:count]


def _added_behind(tokenizer: Any) -> int:
    """How many tokens a tokenizer puts behind a text."""
    plain = tokenizer("a", add_special_tokens=False).input_ids
    whole = tokenizer("a").input_ids
    rest = len(whole) - len(plain)
    before = next((n for n in range(rest + 1) if whole[n : n + len(plain)] == plain), rest)
    return rest - before
