# SPDX-License-Identifier: Apache-2.0
"""Where the files of a Hugging Face model repeat its window, and how each follows a new one.

The keys of ``config.json`` are those that vLLM (its derived maximum length) and sglang (its context
length) look for, the first of which need not be transformers' own. A server takes the smallest of
them, or the one that it likes best, so all that stand say the same.
"""

from collections.abc import Callable, Set
from typing import Any

Content = dict[str, Any]

WINDOW = "max_position_embeddings"
# In a config.json, beside WINDOW, which alone is written where it is missing.
REPEATED = (
    *("max_sequence_length", "max_seq_length", "max_seq_len", "seq_length", "seq_len"),
    *("model_max_length", "n_positions", "n_ctx", "max_target_positions"),
)
# In a tokenizer_config.json; the second is what transformers called the first before version 3.
TOKENIZER = ("model_max_length", "max_len")
# Of the prompt and the answer together: in a generation_config.json, and in a config.json of old.
LENGTH = "max_length"
# transformers overrules rope_parameters with this key of config.json where it stands.
OVERRULES = "original_max_position_embeddings"
NO_WINDOW = 10**9  # tokenizers say "no limit" by some number beyond


def is_window(value: Any) -> bool:
    """Whether a value can be a window in tokens; the numbers that mean "no limit" are none."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < NO_WINDOW


def repeated(config: Content) -> dict[str, int]:
    """The windows that a config.json says beside ``max_position_embeddings``."""
    return {name: config[name] for name in REPEATED if is_window(config.get(name))}


def tokenizer_window(content: Content) -> int | None:
    """The window that a tokenizer_config.json says; None if it says none."""
    found = (content[name] for name in TOKENIZER if is_window(content.get(name)))
    return next(found, None)


def with_config_window(config: Content, window: int, before: Set[int] = frozenset()) -> Content:
    """Return a copy of a config.json in which every key that stands for the window says it.

    Args:
        config: the dict of config.json.
        window: to serve, in tokens.
        before: windows that were said elsewhere before; ``max_length`` is a window where it is one
            of them or one of this config.json, and a choice of the user otherwise.
    """
    known = before | {config.get(WINDOW), *repeated(config).values()}
    result = {**config, WINDOW: window}
    result |= dict.fromkeys(repeated(config), window)
    result.pop(OVERRULES, None)
    return with_length(result, window, known)


def with_length(content: Content, window: int, before: Set[Any]) -> Content:
    """Return a copy of a generation_config.json whose ``max_length`` is ``window``.

    It stays where it is none of the windows ``before``, as a choice of the user.
    """
    follows = is_window(content.get(LENGTH)) and content[LENGTH] in before
    return {**content, LENGTH: window} if follows else dict(content)


def with_tokenizer_window(content: Content, window: int) -> Content:
    """Return a copy of a tokenizer_config.json whose limit, if it has one, is ``window``."""
    names = (name for name in TOKENIZER if is_window(content.get(name)))
    return {**content, **dict.fromkeys(names, window)}


def with_truncation(content: Content, window: int) -> Content:
    """Return a copy of a tokenizer.json that cuts texts, if it cuts them, at ``window``."""
    truncation = content.get("truncation")
    if not isinstance(truncation, dict) or "max_length" not in truncation:
        return content
    return {**content, "truncation": {**truncation, "max_length": window}}


# The files beside config.json, and how each follows: (content, window, windows before) -> content.
FILES: dict[str, Callable[[Content, int, Set[Any]], Content]] = {
    "generation_config.json": with_length,
    "tokenizer_config.json": lambda content, window, before: with_tokenizer_window(content, window),
    "tokenizer.json": lambda content, window, before: with_truncation(content, window),
}
