# SPDX-License-Identifier: Apache-2.0
"""Starts LLaMA-Factory with the callback of E2-LLM.

    python -m examples.other_trainers.llamafactory_e2 SETTINGS.yaml
    torchrun --nproc-per-node N -m examples.other_trainers.llamafactory_e2 SETTINGS.yaml

The file is LLaMA-Factory's own with one more key, which it does not get to see:

    e2: {max_scale: 8, recipe: best, draw_per: sample}
"""

import json
import sys
from pathlib import Path
from typing import Any

from e2_common.errors import UserError, brief, exit_on_user_error


def read_settings(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of LLaMA-Factory, and those of E2-LLM.

    Raises:
        UserError: the file cannot be read, or names no model or window.
    """
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read ({brief(error)})") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: holds no settings; give a file of LLaMA-Factory's")
    for name in ("model_name_or_path", "cutoff_len"):
        if name not in settings:
            raise UserError(f"{path}: lacks {name}")
    if settings.get("rope_scaling"):
        raise UserError(f"{path}: rope_scaling fixes one scale; leave it out")
    e2 = settings.pop("e2", {})
    if not isinstance(e2, dict):
        raise UserError(f"{path}: e2: is no table of settings, as in e2: {{max_scale: 8}}")
    return settings, e2


@exit_on_user_error
def main() -> None:
    """Train with the settings of the command line's file."""
    from llamafactory.train.tuner import run_exp

    from examples.other_trainers.settings import e2_config
    from transformers_patches import E2Callback

    if len(sys.argv) != 2:
        raise UserError("one file of settings is needed")
    settings, e2 = read_settings(Path(sys.argv[1]))
    folder = Path(settings["model_name_or_path"])
    try:
        model = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"model_name_or_path {folder}: has no config.json; name a folder"
        ) from error
    config = e2_config(e2, model, settings["cutoff_len"])
    run_exp(settings, callbacks=[E2Callback(config)])


if __name__ == "__main__":
    main()
