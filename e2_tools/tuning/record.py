# SPDX-License-Identifier: Apache-2.0
"""What a run remembers of itself beside its checkpoints, and whether a resumed one is the same."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.files import atomic_file
from e2_common.json_file import read_json_object, write_json
from e2_llm.config import E2Config, differences
from megatron_patches.data.blend import Part, as_records, changed_blend

NAME = "run.json"
# Beside the positions and the data: what says which sample a step trains on, and what its weights
# are. Learning rates and what only observes may change.
FIXED = (
    *("seed", "global_batch_size", "train_iters", "bf16", "weight_decay"),
    *("lora", "lora_alpha", "lora_targets", "lora_train_whole"),
    *("dataloader_inter_document_masking", "eod_mask_loss"),
)


def write(args: argparse.Namespace, config: E2Config, parts: list[Part]) -> None:
    """Write the record of a run that begins.

    Raises:
        UserError: the folder cannot be written to.
    """
    with atomic_file(args.checkpoint_dir / NAME, "--checkpoint-dir") as path:
        write_json(path, _content(args, config, parts))


def check(args: argparse.Namespace, config: E2Config, parts: list[Part]) -> None:
    """Refuse to go on with what another run has begun.

    Raises:
        UserError: naming what differs; not with --e2-override.
    """
    path = args.checkpoint_dir / NAME
    then = read_json_object(path, "name another --checkpoint-dir")
    if args.e2_override:
        return
    wrong = differences(_config(then, config, path), config)
    now = _content(args, config, parts)
    wrong += [
        f"--{name.replace('_', '-')} {then.get(name)} there, {now[name]} here"
        for name in FIXED
        if then.get(name) != now[name]
    ]
    blend = changed_blend(then.get("data", []), now["data"])
    if blend:
        wrong.append(blend)
    if wrong:
        raise UserError(
            f"--checkpoint-dir {args.checkpoint_dir}: its run is another: {'; '.join(wrong)}; give "
            "the same flags, name another folder, or add --e2-override"
        )


def _content(args: argparse.Namespace, config: E2Config, parts: list[Part]) -> dict[str, Any]:
    fixed = {name: getattr(args, name) for name in FIXED}
    return {"positions": dataclasses.asdict(config), **fixed, "data": as_records(parts)}


def _config(record: dict[str, Any], now: E2Config, path: Path) -> E2Config:
    """The configuration of a record; fields that came later have their defaults."""
    stored = record.get("positions")
    if not isinstance(stored, dict) or not isinstance(record.get("data"), list):
        raise UserError(f"{path}: is no record of a run; name another --checkpoint-dir")
    names = {item.name for item in dataclasses.fields(now)}
    values = {name: value for name, value in stored.items() if name in names}
    for name in ("curriculum", "validation_windows"):
        values[name] = tuple(values.get(name, ()))
    return E2Config(**values)
