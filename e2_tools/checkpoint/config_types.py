# SPDX-License-Identifier: Apache-2.0
"""The types of what is read from a config.json, checked before anything else reads it.

transformers checks a part of this, later and in words of its own. Keys that nobody here reads may
hold anything.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.json_file import is_number, read_json_object

Config = dict[str, Any]

_LARGEST = 2**31  # of a size or a window; Megatron's and torch's are no larger
_DEEPEST = 50  # levels of nesting; what people write has five
_LONGEST = 60  # characters of a value in a message


def read_config(path: Path) -> Config:
    """Read a config.json whose values have the types that its readers expect.

    Args:
        path: of the file.

    Raises:
        UserError: it is missing, no JSON object, or a key holds something else than its kind.
    """
    config = read_json_object(path)
    check_types(config, path)
    return config


def check_types(config: Config, path: object) -> None:
    """Refuse a config.json with values of the wrong type; all of them are named.

    Args:
        config: the parsed file.
        path: of the file, for the message.

    Raises:
        UserError: naming every key with the value it has and what it needs.
    """
    if _depth(config) > _DEEPEST:
        raise UserError(f"{path}: is nested more than {_DEEPEST} levels deep; mend or replace it")
    wrong = _wrong(config, KINDS, "")
    for name in ("rope_parameters", "rope_scaling"):
        for inner, rope in _ropes(config.get(name), name):
            wrong += _wrong(rope, ROPE_KINDS, f"{inner}.")
    if wrong:
        raise UserError(f"{path}: {'; '.join(wrong)}; mend or replace it")


def _wrong(config: Config, kinds: "dict[str, Kind]", prefix: str) -> list[str]:
    """What is wrong with the keys that have a kind; null is the same as no key."""
    return [
        f"{prefix}{name} is {_short(config[name])}, {kind[0]} is needed"
        for name, kind in kinds.items()
        if config.get(name) is not None and not kind[1](config[name])
    ]


def _ropes(value: Any, name: str) -> list[tuple[str, Config]]:
    """The dictionaries of RoPE parameters: one, or one a kind of layer."""
    if not isinstance(value, dict):
        return []
    nested = {key: part for key, part in value.items() if isinstance(part, dict)}
    return [(name, value), *((f"{name}.{key}", part) for key, part in nested.items())]


def _depth(value: Any) -> int:
    """Levels of nesting, counted without recursion."""
    level, deepest = [value], 0
    while level and deepest <= _DEEPEST:
        deepest += 1
        parts = (part.values() if isinstance(part, dict) else part for part in level)
        level = [inner for part in parts for inner in part if isinstance(inner, dict | list)]
    return deepest


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    return is_whole(value) and 1 <= value <= _LARGEST


def _is_positive(value: Any) -> bool:
    return is_number(value) and value > 0


def _is_factor(value: Any) -> bool:
    return is_number(value) and 0 < value <= _LARGEST


def _is_fraction(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def _is_list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_token(value: Any) -> bool:
    return is_whole(value) and -_LARGEST <= value <= _LARGEST


# What is needed, in words, and whether a value is so.
Kind = tuple[str, Callable[[Any], bool]]

_SIZE: Kind = ("a whole number from 1", _is_size)
_POSITIVE: Kind = ("a number above 0", _is_positive)
_FACTOR: Kind = ("a number above 0 and below 2^31", _is_factor)
_NUMBER: Kind = ("a number", is_number)
_FRACTION: Kind = ("a number from 0 to 1", _is_fraction)
_FLAG: Kind = ("true or false", lambda value: isinstance(value, bool))
_TEXT: Kind = ("a string", _is_text)
_TEXTS: Kind = ("a list of strings", _is_list_of(_is_text))
_NUMBERS: Kind = ("a list of numbers above 0", _is_list_of(_is_positive))
_TOKEN: Kind = ("a token's number", _is_token)
_TOKENS: Kind = (
    "a token's number or a list of them",
    lambda value: _is_token(value) or _is_list_of(_is_token)(value),
)
_OBJECT: Kind = ("an object", lambda value: isinstance(value, dict))

KINDS: dict[str, Kind] = {
    **dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size"), _SIZE),
    **dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads"), _SIZE),
    **dict.fromkeys(("head_dim", "max_position_embeddings", "sliding_window"), _SIZE),
    **dict.fromkeys(("max_sequence_length", "max_seq_len", "seq_length"), _SIZE),
    **dict.fromkeys(("original_max_position_embeddings",), _SIZE),
    **dict.fromkeys(("rms_norm_eps", "rope_theta", "model_max_length"), _POSITIVE),
    **dict.fromkeys(("attention_dropout", "initializer_range"), _FRACTION),
    **dict.fromkeys(("tie_word_embeddings", "attention_bias", "mlp_bias", "use_cache"), _FLAG),
    **dict.fromkeys(("use_sliding_window", "is_causal", "is_encoder_decoder"), _FLAG),
    **dict.fromkeys(("model_type", "hidden_act", "dtype", "torch_dtype"), _TEXT),
    **dict.fromkeys(("transformers_version",), _TEXT),
    **dict.fromkeys(("architectures", "layer_types"), _TEXTS),
    **dict.fromkeys(("rope_parameters", "rope_scaling", "quantization_config"), _OBJECT),
    **dict.fromkeys(("e2_llm", "dual_chunk_attention_config"), _OBJECT),
    **dict.fromkeys(("bos_token_id", "pad_token_id"), _TOKEN),
    "eos_token_id": _TOKENS,
}
ROPE_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("rope_type", "type"), _TEXT),
    "factor": _FACTOR,
    **dict.fromkeys(("rope_theta", "attention_factor"), _POSITIVE),
    **dict.fromkeys(("low_freq_factor", "high_freq_factor"), _POSITIVE),
    **dict.fromkeys(("beta_fast", "beta_slow", "partial_rotary_factor"), _POSITIVE),
    **dict.fromkeys(("mscale", "mscale_all_dim", "short_mscale", "long_mscale"), _NUMBER),
    **dict.fromkeys(("short_factor", "long_factor"), _NUMBERS),
    "original_max_position_embeddings": _SIZE,
    "truncate": _FLAG,
}
