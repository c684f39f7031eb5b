# SPDX-License-Identifier: Apache-2.0
"""From a Megatron checkpoint to a Hugging Face directory: the steps, in order."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from e2_common.disk.checkpoint_folder import find_iteration
from e2_common.disk.torch_dist_reader import TorchDistReader
from e2_common.errors import UserError
from e2_common.files import atomic_directory
from e2_common.json_file import read_json_object, write_json
from e2_common.model_sizes import ModelSizes
from e2_llm.window import Config, rope_parameters, window_note
from e2_llm.window_keys import WINDOW
from e2_tools.checkpoint import hf_config
from e2_tools.checkpoint.check_export import check_export
from e2_tools.checkpoint.compare_logits import TooLittleMemory
from e2_tools.checkpoint.config_keys import dropped_note, require_understood, understood
from e2_tools.checkpoint.config_types import read_config
from e2_tools.checkpoint.dtypes import DTYPES
from e2_tools.checkpoint.families import Family, family_of_arguments, family_of_config
from e2_tools.checkpoint.families.family import EMBEDDING
from e2_tools.checkpoint.hf_writer import plan_shards, write_weights
from e2_tools.checkpoint.model_card import write_model_card
from e2_tools.checkpoint.run_args import RunArgs, run_args
from e2_tools.checkpoint.source_rope import source_rope
from e2_tools.checkpoint.tensor_moves import plan_moves
from e2_tools.checkpoint.tokenizer import copy_tokenizer, find_tokenizer, load_tokenizer
from e2_tools.checkpoint.window_files import changed_files, windows_before, write_files

# Besides the model, Megatron saves the optimizer's tensors under these names.
NOT_MODEL = ("optimizer.", "chained_", "rng_state")


@dataclass(frozen=True)
class ExportOptions:
    """The flags of ``convert_megatron_to_hf.py``, one field each."""

    load: Path
    save: Path
    iteration: int | None = None
    hf_model: Path | None = None
    tokenizer: Path | None = None
    window: int | None = None
    dtype: str | None = None
    max_shard_size: str = "5GB"
    check: bool = False


def export(options: ExportOptions) -> None:
    """Convert one checkpoint; the result is whole or absent.

    Raises:
        UserError: something in the options, the checkpoint or the named folders is wrong.
    """
    if options.window is not None and options.window < 1:
        raise UserError(f"--window {options.window}: must be at least 1 token")
    reader = TorchDistReader(find_iteration(options.load, options.iteration))
    run = run_args(reader.common())
    base_path = options.hf_model / "config.json" if options.hf_model else None
    base = raw = read_config(base_path) if base_path else None
    tokenizer_from = find_tokenizer(options.tokenizer, options.hf_model, run.tokenizer)
    tokenizer, unread = load_tokenizer(tokenizer_from) if tokenizer_from else (None, None)

    stored = {
        name: tuple(info.size)
        for name, info in reader.tensors.items()
        if not name.startswith(NOT_MODEL)
    }
    sizes = _sizes(run, stored, base, base_path, tokenizer)
    family = _family(run, base, base_path)
    notes = [unread]
    if base is not None:
        require_understood(base, family, base_path)
        notes.append(dropped_note(base, family, base_path))
        base = understood(base, family)
    moves = plan_moves(stored, sizes, family)
    reader.require_whole({move.source for move in moves})
    if base is not None:
        hf_config.require_same_model(run, sizes, base_path)

    dtype = DTYPES[options.dtype] if options.dtype else getattr(torch, run.dtype)
    config = hf_config.model_config(run, sizes, str(dtype).removeprefix("torch."), family, base)
    if base is None:
        config |= _special_tokens(tokenizer)
        notes += _guesses(config, sizes, run, tokenizer)
    padding = config.get("pad_token_id")
    if padding is not None and padding >= sizes.vocab:  # transformers would not build the model
        config["pad_token_id"] = None
        notes.append(f"pad_token_id {padding} is beyond the {sizes.vocab} tokens and left out")
    config = hf_config.served(config, run, options.window)
    split = plan_shards(moves, dtype, options.max_shard_size)

    unchecked = None
    with atomic_directory(options.save, "--save") as folder:
        write_weights(folder, reader, moves, split, dtype)
        write_json(folder / "config.json", config)
        _write_generation_config(folder, options.hf_model, config)
        if tokenizer_from is not None:
            copy_tokenizer(tokenizer_from, folder)
        _follow_window(folder, config, raw, options.hf_model)
        write_model_card(folder, config, run, options.hf_model)
        if options.check:
            try:
                check_export(folder, reader, moves, split, dtype)
            except TooLittleMemory as error:  # the result is fine: it stays
                unchecked = error
    _report(options, run, config, checked=not unchecked)
    notes += _differences(options, run, config, tokenizer_from, tokenizer)
    for note in filter(None, notes):
        print(f"note: {note}")
    if unchecked:
        raise unchecked


def _sizes(
    run: RunArgs,
    stored: dict[str, tuple[int, ...]],
    base: Config | None,
    base_path: Path | None,
    tokenizer: Any,
) -> ModelSizes:
    """Collect the model's sizes; the true vocabulary is that of base, the run or the tokenizer."""
    known = run.sizes
    rows = stored.get(EMBEDDING.megatron[0], (known.padded_vocab or known.vocab or 0,))[0]
    if base is not None:
        source, vocab = f"{base_path}: vocab_size", base.get("vocab_size")
        if not isinstance(vocab, int) or (known.vocab or 0) > vocab:
            raise UserError(f"{source} is {vocab!r}, in the checkpoint's arguments {known.vocab}")
    elif known.vocab is not None:
        source, vocab = "--load: vocab_size in the checkpoint's arguments", known.vocab
    elif tokenizer is not None:
        source, vocab = "the tokenizer's size", len(tokenizer)
    else:
        raise UserError(
            "--tokenizer or --hf-model is needed: the checkpoint says only how large the "
            f"padded vocabulary is ({rows})"
        )
    if vocab > rows:
        raise UserError(f"{source} is {vocab}, but the checkpoint holds {rows} rows")
    return replace(known, vocab=vocab, padded_vocab=known.padded_vocab or rows)


def _family(run: RunArgs, base: Config | None, base_path: Path | None) -> Family:
    if base is None:
        return family_of_arguments(run.kind)
    family = family_of_config(base, base_path)
    if family.kind != run.kind:
        raise UserError(
            f"{base_path}: a {family.title}, but the checkpoint was trained with "
            f"{', '.join(sorted(run.kind)) or 'nothing that Llama lacks'}"
        )
    return family


def _special_tokens(tokenizer: Any) -> Config:
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: getattr(tokenizer, name, None) for name in names}


def _write_generation_config(folder: Path, hf_model: Path | None, config: Config) -> None:
    path = hf_model / "generation_config.json" if hf_model else None
    if path is not None and path.is_file():
        content = read_json_object(path)
    else:
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        found = {name: config.get(name) for name in names}
        content = {name: value for name, value in found.items() if value is not None}
        content["_from_model_config"] = True
    write_json(folder / "generation_config.json", content)


def _follow_window(
    folder: Path, config: Config, base: Config | None, hf_model: Path | None
) -> None:
    """Have the files that were carried over say the window that is served."""
    before = windows_before(base, hf_model) if base is not None and hf_model else set()
    write_files(changed_files(folder, config[WINDOW], before))


def _guesses(config: Config, sizes: ModelSizes, run: RunArgs, tokenizer: Any) -> list[str]:
    """What an export cannot know without ``--hf-model``, and has left out."""
    notes = []
    dropped = sizes.padded_vocab - sizes.vocab
    if dropped and run.sizes.vocab is None:
        notes.append(
            f"the vocabulary is taken to be the tokenizer's {sizes.vocab} tokens; the last "
            f"{dropped} of the checkpoint's {sizes.padded_vocab} rows are left out as padding; "
            "--hf-model says how many the model has"
        )
    names = ("bos_token_id", "eos_token_id")
    unknown = [name for name in names if config.get(name) is None]
    if unknown:
        source = "the tokenizer names none" if tokenizer else "no tokenizer was read"
        notes.append(f"{' and '.join(unknown)} stay empty: {source}; --hf-model keeps the model's")
    return notes


def _report(options: ExportOptions, run: RunArgs, config: Config, checked: bool) -> None:
    factor = rope_parameters(config)["factor"]
    suffix = "; checked" if options.check and checked else ""
    print(
        f"{options.save}: iteration {run.exported.iteration}, "
        f"window {config['max_position_embeddings']}, factor {factor:g}, {config['dtype']}{suffix}"
    )


def _differences(
    options: ExportOptions,
    run: RunArgs,
    config: Config,
    tokenizer_from: Path | None,
    tokenizer: Any,
) -> list[str | None]:
    """What does not go together: the window, the tokenizer, the model that training began with."""
    notes = [window_note(config)]
    if tokenizer_from is None:
        notes.append("no tokenizer was found; carry one over with --tokenizer")
    elif tokenizer is not None and len(tokenizer) > config["vocab_size"]:
        notes.append(
            f"{tokenizer_from}: the tokenizer has {len(tokenizer)} tokens, the model only "
            f"{config['vocab_size']} rows"
        )
    if options.hf_model is not None:
        path = options.hf_model / "config.json"
        # A llama3 scaling is the model's own only where training kept it.
        choice = None if run.exported.own_scaling else "original"
        try:
            pretrained = source_rope(hf_config.complete_config(path), choice, path).window
        except UserError:  # which the import asked about, and the user has said
            pretrained = run.exported.base_window
        if pretrained != run.exported.base_window:
            notes.append(
                f"{options.hf_model}: was pre-trained at window {pretrained}, the run took "
                f"L = {run.exported.base_window}"
            )
    return notes
