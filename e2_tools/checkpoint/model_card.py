# SPDX-License-Identifier: Apache-2.0
"""The model card of an exported model: how it was trained, which windows it serves, and how."""

import shutil
from pathlib import Path
from typing import Any, Protocol

from e2_llm.config import DRAW_UNITS
from e2_llm.exported import Exported
from e2_llm.registry import method_class
from e2_llm.window import Config, own_rope, with_window
from e2_tools.checkpoint.serving_notes import serving_notes

# What a licence asks to travel with the weights.
LICENCE_FILES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")


class Training(Protocol):
    """What a card says of a training, on Megatron or on transformers.

    Attributes:
        exported: what config.json remembers.
        draw_per: what shared a draw.
        placed: where tokens were placed; None if that was no choice.
        data: the blend, as a checkpoint of Megatron stores it.
    """

    exported: Exported
    draw_per: str
    placed: str | None
    data: list[dict[str, Any]]


def write_model_card(folder: Path, config: Config, run: Training, source: Path | None) -> None:
    """Write ``README.md``, and carry over the licence files of the model trained from.

    Args:
        folder: the exported model.
        config: its config.json, with the ``e2_llm`` block.
        run: how it was trained.
        source: folder of the Hugging Face model that training started from, if known.
    """
    (folder / CARD).write_text(model_card(config, run, source), encoding="utf-8")
    if source is not None:
        for pattern in LICENCE_FILES:
            for path in sorted(source.glob(pattern)):
                shutil.copyfile(path, folder / path.name)


def model_card(config: Config, run: Training, source: Path | None) -> str:
    """The card as Markdown with the hub's front matter; see :func:`write_model_card`."""
    exported = run.exported
    title = method_class(exported.method).title
    rows = {
        "method": title.format(unit=DRAW_UNITS[run.draw_per]),
        "frequencies": exported.frequencies,
        "own RoPE scaling of the pre-trained model": own_rope(config).scaling() or None,
        "pre-trained window L": f"{exported.base_window:,} tokens",
        "training window R": f"{exported.train_window:,} tokens",
        "largest scale G_max": exported.max_scale,
        "placement": run.placed,
        "tokens without offset": exported.keep_first,
        "training steps": exported.iteration,
        _NOW: f"{config['max_position_embeddings']:,} tokens",
        "trained from": source.resolve().name if source else None,
        "data": "; ".join(map(_dataset, run.data)) or None,
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items() if value is not None)
    parts = [_HEAD, f"| | |\n|---|---|\n{table}\n"]
    if exported.max_scale:
        rows = _window_rows(config, exported)
        parts.append(_WINDOWS.format(rows=rows, largest=exported.max_scale))
    parts.append(serving_notes(config))
    if source is not None:
        parts.append(f"The licence of {source.resolve().name} applies to these weights.\n")
    return "\n".join(parts)


def _dataset(part: dict[str, Any]) -> str:
    """A dataset of the blend, as training stored it."""
    split = "" if part["split"] == "all" else f" of {part['split']}"
    size = "" if part["tokens"] is None else f" ({part['tokens']:,} tokens)"
    mask = ", loss on part of its tokens" if part["loss_mask"] else ""
    return f"{part['weight']:.1%}{split} {Path(part['prefix']).name}{size}{mask}"


def _window_rows(config: Config, exported: Exported) -> str:
    """A row for L, 2 L, 4 L, ... up to the largest trained scale."""
    base, largest = exported.base_window, exported.max_scale
    rows, scale = [], 1
    while scale <= largest:
        served = with_window(config, scale * base)["rope_parameters"]
        served = ", ".join(f"{name} {_short(value)}" for name, value in served.items())
        rows.append(f"| {scale * base:,} | {served} |")
        scale *= 2
    return "\n".join(rows)


def _short(value: Any) -> str:
    """A value of ``rope_parameters``; a list by its length."""
    if isinstance(value, list):
        return f"[{len(value)} numbers]"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


CARD = "README.md"
_NOW = "window served now"
SERVED = f"| {_NOW} | {{}} tokens |"  # the row that a new window changes

_HEAD = """---
library_name: transformers
tags:
- long-context
- e2-llm
---

# How this model was trained
"""
_WINDOWS = """# Windows that it serves

One set of weights; only `rope_parameters` and `max_position_embeddings` in `config.json` change, by
`python tools/set_window.py MODEL_DIR --window N`. Scales up to {largest} were trained.

| window (tokens) | `rope_parameters` |
|---:|---|
{rows}
"""
