# SPDX-License-Identifier: Apache-2.0
"""What a run remembers of itself beside its checkpoints, and whether a resumed one is the same."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.files import atomic_file
from e2_common.json_file import read_json_object, write_json
from e2_llm.arguments import argument_name
from e2_llm.config import E2Config, differences
from e2_llm.methods import method_for
from e2_tools.arguments import flag_of
from e2_tools.checkpoint.import_hf import Source
from e2_tools.checkpoint.which_weights import weights_of
from megatron_patches.data.blend import Part, as_records, changed_blend

NAME = "run.json"
# What a run that goes on may change. Every other argument is fixed, also one that comes later.
MAY_CHANGE = {
    *("lr", "min_lr", "lr_decay_style", "lr_warmup_iters", "lr_warmup_fraction"),
    *("attention", "gradient_checkpointing"),  # how the same is computed
    *("log_interval", "eval_interval", "eval_iters", "tensorboard_dir"),
    *("save", "save_interval", "checkpoint_dir", "keep_checkpoints", "load_newest_whole"),
    *("merge", "data_cache_path", "e2_override"),
}
# What is recorded by its content, not by its name: the model, the data, the positions.
BY_CONTENT = {
    *("model", "data_path", "text", "json_key", "seq_length", "e2_recipe"),
    *(argument_name(item.name) for item in dataclasses.fields(E2Config) if item.metadata),
}


def write(args: argparse.Namespace, config: E2Config, parts: list[Part], source: Source) -> None:
    """Write the record of a run that begins.

    Raises:
        UserError: the folder cannot be written to.
    """
    with atomic_file(args.checkpoint_dir / NAME, "--checkpoint-dir") as path:
        write_json(path, _content(args, config, parts, source))


def check(args: argparse.Namespace, config: E2Config, parts: list[Part], source: Source) -> None:
    """Refuse to go on with what another run has begun.

    Raises:
        UserError: naming what differs; not with --e2-override.
    """
    path = args.checkpoint_dir / NAME
    then = read_json_object(path, "name another --checkpoint-dir")
    if args.e2_override:
        return
    wrong = differences(_config(then, config, path), config)
    now = _content(args, config, parts, source)
    wrong += [
        f"{flag_of(name)} {then[name]} there, {now[name]} here"
        for name in _fixed(args, config)
        if then.get(name, now[name]) != now[name]
    ]
    if then.get("model", now["model"]) != now["model"]:
        wrong.append(f"--model {args.model} has other weights, or another RoPE")
    blend = changed_blend(then.get("data", []), now["data"])
    if blend:
        wrong.append(blend)
    if wrong:
        raise UserError(
            f"--checkpoint-dir {args.checkpoint_dir}: its run is another: {'; '.join(wrong)}; give "
            "the same flags, name another folder, or add --e2-override"
        )


def _fixed(args: argparse.Namespace, config: E2Config) -> list[str]:
    """The arguments whose values a run keeps, by name."""
    free = MAY_CHANGE | BY_CONTENT
    if config.draw_per != "microbatch" or not method_for(config).draws():
        free = free | {"micro_batch_size"}  # what does not fit any more may be cut smaller
    return [name for name in vars(args) if name not in free]


def _content(
    args: argparse.Namespace, config: E2Config, parts: list[Part], source: Source
) -> dict[str, Any]:
    return {
        "positions": dataclasses.asdict(config),
        **{name: getattr(args, name) for name in _fixed(args, config)},
        "model": {"rope": str(source.rope.own), "weights": weights_of(args.model)},
        "data": as_records(parts),
    }


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
