# SPDX-License-Identifier: Apache-2.0
"""Rewrites the window of a Hugging Face directory in place, in every file that says it."""

from pathlib import Path

from e2_common.errors import UserError
from e2_llm.exported import KEY, Exported
from e2_llm.window import Config, own_rope, rope_parameters, window_note, with_window
from e2_llm.window_keys import WINDOW, is_window
from e2_tools.checkpoint.config_types import read_config
from e2_tools.checkpoint.pretrained_window import pretrained
from e2_tools.checkpoint.window_files import changed_files, windows_before, write_files


def set_window(
    model: Path, window: int, dry_run: bool = False, base_window: int | None = None
) -> str:
    """Set the RoPE scale of a model's config.json, and the window wherever its files say it.

    Args:
        model: a Hugging Face directory.
        window: to serve, in tokens.
        dry_run: change nothing.
        base_window: L where the files leave it open or are wrong, in tokens.

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
    if not is_window(window):
        raise UserError(f"--window {window}: must be at least 1 token and below a billion")
    raw = read_config(path)
    source = pretrained(raw, model, base_window)
    old = source.config
    _refuse(old, window, path)
    if Exported.from_config(raw) is None:
        # Imported late: transformers takes seconds, and an export needs no such question.
        from e2_tools.checkpoint.known_rope import require_scalable

        require_scalable({name: old[name] for name in old if name != KEY}, path)
    new = with_window(old, window)
    # The file that decides is the last to be replaced, so the first to be made ready.
    contents = {path: new} | changed_files(model, window, windows_before(raw, model))
    if not dry_run:
        write_files(contents)
    names = [other.name for other in contents if other != path]
    notes = [f"also {', '.join(names)}" if names else None]
    notes += [f"note: {note}" for note in (window_note(new), *source.notes) if note]
    return (
        f"{path}: window {_served(old)} -> {_served(new)}"
        + "".join(f"; {note}" for note in notes if note)
        + (" (dry run, nothing written)" if dry_run else "")
    )


def _served(config: Config) -> str:
    own, factor = own_rope(config).factor, rope_parameters(config)["factor"]
    times = "" if own == 1 else f" times its own {own:g}"
    return f"{config[WINDOW]} (factor {factor:g}{times})"


def _refuse(config: Config, window: int, path: Path) -> None:
    if not is_window(config.get(WINDOW)):
        raise UserError(f"{path}: has no {WINDOW}; is this a RoPE language model?")
    rope_parameters(config)
    exported = Exported.from_config(config)
    exported.serving_scale(window)  # refuses a model of one factor
    least, kind = exported.train_window, "trained"
    if exported.method == "none" and exported.train_window is None:
        least, kind = exported.base_window, "pre-trained"
    if window < (least or 0):
        raise UserError(
            f"--window {window}: below the {kind} window of {least} tokens; "
            "nothing needs changing for shorter texts"
        )
