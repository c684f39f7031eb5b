# SPDX-License-Identifier: Apache-2.0
"""What may not change between two runs in one folder."""

import json
from pathlib import Path
from typing import Any

import torch

from e2_common.errors import UserError
from e2_common.files import atomic_file
from e2_common.json_file import read_json_object
from e2_tools.evaluation.precision import faster

SETTINGS = "settings.json"


def dtype_of(settings: Path, config: dict[str, Any], device: str) -> str:
    """Return the type that a run goes on in; of a new one, bf16 where it is clearly faster."""
    before = read_json_object(settings, "remove it") if settings.exists() else {}
    if "dtype" in before:
        return before["dtype"]
    if device == "cuda" and not torch.cuda.is_available():
        return "bf16"  # a plan for another machine
    return faster(config, torch.device(device)).dtype


def keep_settings(path: Path, settings: dict[str, object]) -> None:
    """Write a run's settings into its folder, or compare them with those that are there.

    Raises:
        UserError: they differ.
    """
    if path.exists():
        before = read_json_object(path, "remove it")
        for name, value in settings.items():
            if before.get(name) != value:
                flag = f"--{name.replace('_', '-')}"
                raise UserError(
                    f"{flag} {value}: {path.parent} holds a run with {before.get(name)}; "
                    "choose another --out"
                )
        return
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(settings) + "\n", encoding="utf-8")
