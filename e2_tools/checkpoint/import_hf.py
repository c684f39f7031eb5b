# SPDX-License-Identifier: Apache-2.0
"""From a Hugging Face directory to a Megatron checkpoint: the steps, in order."""

import contextlib
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from e2_common.disk.torch_dist_writer import Piece, write_release
from e2_common.errors import UserError, brief
from e2_common.files import atomic_directory
from e2_common.model_sizes import ModelSizes
from e2_common.progress import progress_bar
from e2_llm.window_keys import WINDOW
from e2_tools.checkpoint.adapter import AdaptedReader
from e2_tools.checkpoint.compare_logits import UncheckedError, compare_logits, require_peft
from e2_tools.checkpoint.config_keys import dropped_note, require_understood
from e2_tools.checkpoint.config_types import read_config
from e2_tools.checkpoint.dtypes import DTYPES, cast
from e2_tools.checkpoint.families import Family, family_of_config
from e2_tools.checkpoint.hf_config import complete_config
from e2_tools.checkpoint.hf_reader import HFReader, has_weights
from e2_tools.checkpoint.megatron_args import (
    command_line,
    model_flags,
    stored_arguments,
    tokenizer_flags,
)
from e2_tools.checkpoint.pretrained_window import stated_window, theta_note
from e2_tools.checkpoint.sliding import plain_attention, sliding_window
from e2_tools.checkpoint.source_rope import SourceRope, source_rope
from e2_tools.checkpoint.tensor_moves import Move, plan_import
from e2_tools.checkpoint.tokenizer import find_tokenizer
from e2_tools.checkpoint.what_is_this import hint, quantised_hint

type Reader = HFReader | AdaptedReader


@dataclass(frozen=True)
class ImportOptions:
    """The flags of ``convert_hf_to_megatron.py``, one field each."""

    hf_model: Path
    save: Path | None = None
    dtype: str | None = None
    rope_scaling: str | None = None
    full_attention: bool = False
    base_window: int | None = None
    print_args: bool = False
    check: bool = False
    adapter: Path | None = None


@dataclass(frozen=True)
class Source:
    """What the config.json of a model says, checked."""

    path: Path
    config: dict[str, Any]
    family: Family
    sizes: ModelSizes
    rope: SourceRope
    flags: dict[str, Any]
    note: str | None


def import_model(options: ImportOptions) -> None:
    """Convert one model; the result is whole or absent.

    Raises:
        UserError: something in the options or the model is wrong.
    """
    if options.save is None and (options.check or not options.print_args):
        raise UserError("--save is missing: the folder to write the Megatron checkpoint to")
    if options.check and options.adapter is not None:
        require_peft()
    source = read_source(options)
    reader = _reader(options)
    if options.print_args:
        print(command_line(source.flags))
    if options.save is None or reader is None:
        return
    if source.note:
        print(f"note: {source.note}")
    if source.sizes.tied:
        _drop_tied_output(reader)
    if options.adapter is not None:
        reader = AdaptedReader(reader, options.adapter, tied=source.sizes.tied)
    moves = plan_import(reader.shapes, source.sizes, source.family)
    dtype = _dtype(options, reader)
    size = sum(torch.Size(shape).numel() for shape in reader.shapes.values()) * dtype.itemsize
    _require_space(options.save, size)
    args = stored_arguments(source.flags, source.sizes, dtype, source.rope)
    unchecked = None
    with atomic_directory(options.save, "--save") as folder:
        with (
            _clear_write_errors(options.save),
            progress_bar(size, "B", "weights") as bar,
        ):
            pieces = [_piece(move, reader, dtype) for move in moves]
            write_release(folder, pieces, source.sizes.layers, dtype, args, bar.update)
        if options.check:
            try:
                compare_logits(folder, options.hf_model, source.sizes.vocab, options.adapter)
            except UncheckedError as error:  # nothing is known against the result: it stays
                unchecked = error
    print(
        f"{options.save}: {source.family.title}, {size / 1e9:.2f} GB in "
        f"{str(dtype).removeprefix('torch.')}, L = {source.rope.window} tokens, "
        f"RoPE base {source.rope.own.theta:g}"
        + _own_scaling(source.rope)
        + (f", with the LoRA at {options.adapter}" if options.adapter else "")
        + "; train with --use-checkpoint-args --pretrained-checkpoint "
        + str(options.save)
    )
    if unchecked:
        raise unchecked


def _reader(options: ImportOptions) -> HFReader | None:
    """The weights; None where only the arguments are asked for and there are none.

    Raises:
        UserError: they cannot be converted.
    """
    if options.save is not None or has_weights(options.hf_model):
        return HFReader(options.hf_model)
    if quantised_hint(options.hf_model):
        raise UserError(f"{options.hf_model}: holds no weights{quantised_hint(options.hf_model)}")
    return None


def _own_scaling(rope: SourceRope) -> str:
    """What the model's RoPE has beside its base, and what reproduces it, for people."""
    text = "" if rope.own.is_plain else f", own {rope.own.scaling()}"
    if rope.positions:
        text += f", kept by --position-method {rope.positions['position-method']}"
    return text


def read_source(options: ImportOptions) -> Source:
    """Read and check the model's config.json.

    Raises:
        UserError: it is missing, of an unknown family, or Megatron cannot build its model.
    """
    if not options.hf_model.is_dir():
        raise UserError(f"--hf-model {options.hf_model}: no such folder{hint(options.hf_model)}")
    path = options.hf_model / "config.json"
    if not path.is_file() or (options.hf_model / "adapter_config.json").is_file():
        found = "is missing" if not path.is_file() else "stands beside an adapter"
        raise UserError(f"{path}: {found}{hint(options.hf_model)}")
    raw = read_config(path)
    family = family_of_config(raw, path)
    require_understood(raw, family, path)
    config = complete_config(path)
    config[WINDOW] = stated_window(raw, config)
    sliding = sliding_window(config, family, path)
    if options.full_attention or sliding is None:
        config = plain_attention(config, family)
    _require_plain(config, family, path, sliding)
    sizes = ModelSizes.from_config(config, path)
    rope = source_rope(config, options.rope_scaling, path, options.base_window)
    if sliding is not None and options.base_window is None:
        rope = rope.within(sliding, path)
    for note in filter(None, (rope.note, theta_note(raw, config))):
        print(f"note: {options.hf_model}: {note}", file=sys.stderr)
    tokenizer = find_tokenizer(None, options.hf_model, None)
    flags = model_flags(config, family, sizes, rope, path) | tokenizer_flags(tokenizer)
    return Source(path, config, family, sizes, rope, flags, dropped_note(raw, family, path))


def _require_plain(config: dict[str, Any], family: Family, path: Path, sliding: int | None) -> None:
    wrong = [
        f"{name} is {config[name]!r}, only {value!r} is supported"
        for name, value in family.config.items()
        if name in config and config[name] != value
    ]
    if wrong and sliding is not None:
        wrong.append(
            "--full-attention converts it all the same, with L at most the sliding window, "
            "within which both attentions are equal"
        )
    if wrong:
        raise UserError(f"{path}: {'; '.join(wrong)}")


def _drop_tied_output(reader: HFReader) -> None:
    """Tied models may store their output matrix all the same; it has to be the embedding."""
    embedding, output = "model.embed_tokens.weight", "lm_head.weight"
    if output not in reader.shapes:
        return
    if embedding in reader.shapes and not torch.equal(reader.read(output), reader.read(embedding)):
        raise UserError(
            f"{reader.folder}: tie_word_embeddings is true, but {output} is not {embedding}; "
            "set it to false in config.json if the model really has both"
        )
    reader.drop(output)


def _dtype(options: ImportOptions, reader: Reader) -> torch.dtype:
    if options.dtype:
        return DTYPES[options.dtype]
    counts = Counter(reader.dtypes.values())
    (dtype, _), *others = counts.most_common()
    if others:
        print(f"note: {options.hf_model}: dtypes are mixed, all become {dtype}; --dtype chooses")
    return dtype


def _piece(move: Move, reader: Reader, dtype: torch.dtype) -> Piece:
    return Piece(
        move.source, move.layer, move.rule.shape(move.sizes), partial(_make, move, reader, dtype)
    )


def _make(move: Move, reader: Reader, dtype: torch.dtype) -> Tensor:
    return move.join([cast(reader.read(name), dtype, name) for name in move.targets])


def _require_space(save: Path, size: int) -> None:
    parent = next(path for path in (save, *save.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(parent).free
    if free < size * 1.01:
        raise UserError(
            f"--save {save}: needs {size / 1e9:.1f} GB, only {free / 1e9:.1f} GB are free there"
        )


@contextlib.contextmanager
def _clear_write_errors(save: Path) -> Iterator[None]:
    """Unwrap what torch's writer wraps; say in one line what its own errors say of a disk."""
    try:
        try:
            yield
        except CheckpointException as error:
            raise next(iter(error.failures.values()))[0] from error
    except RuntimeError as error:
        raise UserError(f"--save {save}: cannot be written ({brief(error)})") from error
