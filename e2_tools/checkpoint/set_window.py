# SPDX-License-Identifier: Apache-2.0
"""Rewrites the window of a Hugging Face directory in place."""

from pathlib import Path

from e2_common.errors import UserError
from e2_common.files import atomic_file
from e2_common.json_file import read_json_object, write_json
from e2_llm.exported import Exported
from e2_llm.window import Config, base_window, rope_parameters, window_note, with_window


def set_window(model: Path, window: int, dry_run: bool = False) -> str:
    """Set ``max_position_embeddings`` and the RoPE scale of a model's config.json.

    Args:
        model: a Hugging Face directory.
        window: to serve, in tokens.
        dry_run: change nothing.

    Returns:
        one line that says what changed.

    Raises:
        UserError: the folder holds no usable config.json, or the window makes no sense for it.
    """
    if not model.is_dir():
        raise UserError(f"{model}: no such folder")
    path = model / "config.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; name the folder of a Hugging Face model")
    old = read_json_object(path)
    _refuse(old, window, path)
    new = with_window(old, window)
    if not dry_run:
        with atomic_file(path) as temporary:
            write_json(temporary, new)
    note = window_note(new)
    return (
        f"{path}: window {_served(old)} -> {_served(new)}"
        + (f"; note: {note}" if note else "")
        + (" (dry run, nothing written)" if dry_run else "")
    )


def _served(config: Config) -> str:
    return f"{config['max_position_embeddings']} (factor {rope_parameters(config)['factor']:g})"


def _refuse(config: Config, window: int, path: Path) -> None:
    if window < 1:
        raise UserError(f"--window {window}: must be at least 1 token")
    if not isinstance(config.get("max_position_embeddings"), int):
        raise UserError(f"{path}: has no max_position_embeddings; is this a RoPE language model?")
    rope_parameters(config)
    exported = Exported.from_config(config)
    if exported is None:
        _refuse_below_base(config, window)
        return
    exported.serving_scale(window)  # refuses a model of one factor
    trained = exported.train_window or 0
    if window < trained:
        raise UserError(
            f"--window {window}: below the trained window of {trained} tokens; "
            "nothing needs changing for shorter texts"
        )


def _refuse_below_base(config: Config, window: int) -> None:
    # Without an e2_llm block config.json is all that remembers L; a smaller window would erase it.
    base = base_window(config)
    if window < base:
        raise UserError(
            f"--window {window}: below the pre-trained window of {base} tokens; "
            "nothing needs changing for shorter texts"
        )
