# SPDX-License-Identifier: Apache-2.0
"""L and the RoPE of a Hugging Face folder: config.json, what transformers fills in, other files."""

import json
from dataclasses import dataclass
from pathlib import Path

from e2_common.errors import UserError
from e2_llm.exported import Exported
from e2_llm.native_window import NativeWindow, native_window
from e2_llm.window import Config, own_rope, remembered, standing_rope, standing_theta
from e2_llm.window_keys import LENGTH, WINDOW, is_window, repeated, tokenizer_window


@dataclass(frozen=True)
class Pretrained:
    """A config.json that says all that a scale needs.

    Attributes:
        config: with the base, the window and an ``e2_llm`` block that says L.
        notes: how L and the base were read, where that is not plain.
    """

    config: Config
    notes: list[str]


def pretrained(raw: Config, folder: Path, base_window: int | None = None) -> Pretrained:
    """Complete a config.json as transformers reads it, and remember L.

    Args:
        raw: the dict of config.json.
        folder: of the model.
        base_window: ``--base-window``, which overrules what the files say, in tokens.

    Raises:
        UserError: transformers refuses the file, its RoPE cannot be rescaled, or L cannot be
            decided.
    """
    exported = Exported.from_config(raw)
    check_base_window(base_window, exported)
    if exported is not None:
        return Pretrained(raw, [])
    config = completed(raw, folder)
    own_rope(config)  # refuses what cannot be rescaled
    found = window_of(config, folder, base_window)
    if config.get(WINDOW) is None:
        config[WINDOW] = found.window
    notes = [found.note, theta_note(raw, config)]
    return Pretrained(remembered(config, found.window), list(filter(None, notes)))


def completed(raw: Config, folder: Path) -> Config:
    """A copy of a config.json with the base and the window that transformers fills in.

    Raises:
        UserError: one of them is missing, and transformers cannot say it.
    """
    config = dict(raw)
    if raw.get(WINDOW) is not None and standing_theta(raw) is not None:
        return config
    # Imported late: transformers takes seconds, and most files say both.
    from e2_tools.checkpoint.known_rope import complete

    theirs = complete(raw, folder / "config.json")
    if raw.get(WINDOW) is None:
        config[WINDOW] = stated_window(raw, theirs)
    if standing_theta(raw) is None and standing_rope(theirs).get("rope_theta") is not None:
        config["rope_theta"] = standing_rope(theirs)["rope_theta"]
    return config


def stated_window(raw: Config, complete: Config) -> int | None:
    """``max_position_embeddings``; where it is missing what repeats it, None if that differs.

    Args:
        raw: the dict of config.json.
        complete: the same as transformers completes it, which knows a window of every type.
    """
    if raw.get(WINDOW) is not None:
        return raw[WINDOW]
    said = set(repeated(raw).values()) or {complete.get(WINDOW)}
    return said.pop() if len(said) == 1 else None


def window_of(config: Config, folder: Path, base_window: int | None = None) -> NativeWindow:
    """L of a model without an ``e2_llm`` block; see :func:`native_window`.

    Args:
        config: the dict of config.json, complete.
        folder: of the model, whose other files are asked too.
        base_window: ``--base-window``, in tokens.
    """
    if base_window is not None:
        return NativeWindow(base_window)
    return native_window(config, standing_rope(config), _signs(config, folder))


def tokenizer_limit(folder: Path) -> int | None:
    """The window that the tokenizer of a folder says, in tokens; None if it says none."""
    return tokenizer_window(_read(folder / "tokenizer_config.json"))


def _signs(config: Config, folder: Path) -> dict[str, int]:
    """The windows that the files beside config.json say, by a name for messages."""
    result = {"model_max_length of the tokenizer": tokenizer_limit(folder)}
    length = _read(folder / "generation_config.json").get(LENGTH)
    if is_window(length) and is_window(config.get(WINDOW)) and length > config[WINDOW]:
        result["max_length of generation_config.json"] = length  # a smaller one may be a choice
    return {name: value for name, value in result.items() if value is not None}


def check_base_window(base_window: int | None, exported: Exported | None) -> None:
    """Refuse a ``--base-window`` that is no window, or not the one that an export remembers."""
    if base_window is not None and not is_window(base_window):
        raise UserError(f"--base-window {base_window}: must be at least 1 token, below a billion")
    if exported is not None and base_window not in (None, exported.base_window):
        raise UserError(
            f"--base-window {base_window}: e2_llm in config.json says L = {exported.base_window}, "
            "with which the model was trained; leave the flag out"
        )


def theta_note(raw: Config, complete: Config) -> str | None:
    """Say when rope_scaling hides a base in rope_parameters; None when it does not."""
    hidden = raw.get("rope_parameters")
    said = hidden.get("rope_theta") if isinstance(hidden, dict) else None
    theta = standing_theta(complete)
    if said is None or theta is None or float(said) == theta:
        return None
    return (
        f"config.json: transformers follows rope_scaling and not rope_parameters, so the base is "
        f"{theta:g} and not {said:g}; write rope_theta into rope_scaling if that is not meant"
    )


def _read(path: Path) -> Config:
    """A file that may be missing or broken: as a sign it then says nothing."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
