# SPDX-License-Identifier: Apache-2.0
"""The folder that a run ends in: as an export from Megatron, or the adapter of a LoRA."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from e2_common.disk.room import as_os_errors
from e2_common.files import atomic_directory
from e2_common.json_file import read_json_object, write_json
from e2_llm.exported import Exported
from e2_llm.methods import method_for
from e2_llm.window import as_trained
from e2_llm.window_keys import WINDOW
from e2_tools.checkpoint.config_types import read_config
from e2_tools.checkpoint.model_card import write_model_card
from e2_tools.checkpoint.tokenizer import copy_tokenizer
from e2_tools.checkpoint.window_files import changed_files, windows_before, write_files
from transformers_patches import E2Positions


@dataclass(frozen=True)
class Trained:
    """What the model card says of the run; see ``e2_tools.checkpoint.model_card.Training``."""

    exported: Exported
    draw_per: str
    placed: str | None
    data: list[dict[str, Any]]


def save_adapter(model: Any, folder: Path, tokenizer: Path | None) -> None:
    """Save a LoRA as PEFT does, with the tokenizer.

    Raises:
        UserError: the folder exists already, or cannot be written.
    """
    with atomic_directory(folder, "--save") as path, as_os_errors(folder):
        model.save_pretrained(path)
        if tokenizer is not None:
            copy_tokenizer(tokenizer, path)


def save_model(
    model: Any,
    positions: E2Positions,
    folder: Path,
    *,
    source: Path,
    tokenizer: Path | None,
    iteration: int,
    dtype: torch.dtype,
    data: list[dict[str, Any]],
) -> dict[str, Any]:
    """Save a model with all that its window needs.

    Args:
        model: as trained, a LoRA merged into it.
        positions: of the training.
        folder: to make.
        source: the model that training began with.
        tokenizer: folder of its tokenizer.
        iteration: steps of the training.
        dtype: of the weights.
        data: the blend, as Megatron's checkpoints store it.

    Returns:
        The config.json that was written.

    Raises:
        UserError: the folder exists already, or cannot be written.
    """
    exported, method = positions.exported(iteration), method_for(positions.config)
    raw = read_config(source / "config.json")
    with atomic_directory(folder, "--save") as path, as_os_errors(folder):
        model.to(dtype).save_pretrained(path, max_shard_size="5GB")
        config = read_json_object(path / "config.json")
        config["use_cache"] = raw.get("use_cache", True)  # which a Trainer turns off
        config = as_trained(config, exported, method.trained_scale)
        write_json(path / "config.json", config)
        if tokenizer is not None:
            copy_tokenizer(tokenizer, path)
        write_files(changed_files(path, config[WINDOW], windows_before(raw, source)))
        run = Trained(exported, positions.config.draw_per, method.placed, data)
        write_model_card(path, config, run, source)
    return config
