# SPDX-License-Identifier: Apache-2.0
"""A training on transformers: the steps, in order."""

import argparse
import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from e2_common.cpu.memory import keep_freed_memory
from e2_common.errors import UserError, brief
from e2_common.outputs import check_folder
from e2_tools.arguments import flag_of
from e2_tools.corpus.quiet import quiet_imports
from e2_tools.tuning import arguments


def run(args: argparse.Namespace) -> None:
    """Train, and save what came of it.

    Args:
        args: of :func:`e2_tools.tuning.arguments.build_parser`.

    Raises:
        UserError: something in the arguments, the model or the data is wrong.
    """
    arguments.check(args, int(os.environ.get("WORLD_SIZE", "1")))
    _check_folders(args)
    with _naming_folders(args):
        _train(args)


def _train(args: argparse.Namespace) -> None:
    """What remains once the command line is known to be good."""
    from e2_tools.tuning.model import load, require_packages, source_of, with_lora

    require_packages(args)
    import torch

    source = source_of(args)
    with quiet_imports():
        from e2_llm.arguments import config_from_args
        from e2_llm.methods import method_for
        from e2_tools.checkpoint.tokenizer import find_tokenizer
        from e2_tools.tuning import record
        from e2_tools.tuning.data import open_data, tokenised
        from e2_tools.tuning.report import findings
        from e2_tools.tuning.trainer import E2Trainer, training_arguments
        from megatron_patches.data import datasets  # noqa: F401  (its imports warn of much)
        from transformers_patches import E2Callback, on_cpu
    args.max_position_embeddings = source.rope.window
    args.seq_length = args.seq_length or source.rope.window
    args.padded_vocab_size = source.sizes.vocab
    config = config_from_args(args)
    if not method_for(config).rule.exportable and not args.e2_override:
        raise UserError(
            f"--e2-frequencies {config.frequencies}: no rope_type of transformers computes it, so "
            "the trained model could not be saved to be served; --e2-override trains all the same"
        )
    hf = training_arguments(args)
    if hf.device.type == "cpu":
        on_cpu.install()
        keep_freed_memory()
    tokenizer = find_tokenizer(None, args.model, None)
    if args.text:
        with hf.main_process_first(local=False):
            args.data_path = [tokenised(args, tokenizer)]
    data = open_data(args, config, tokenizer)
    training = args.train_iters * args.global_batch_size
    validation = args.eval_iters * args.global_batch_size
    train, valid = data.windows(config.train_window, training, validation)
    windows = _validation_windows(args, data, config)

    resumed, warning = _chosen(args, hf.process_index == 0)
    if resumed is not None:
        record.check(args, config, data.parts, source)
    model = load(args, source)
    if args.lora:
        model = with_lora(model, args)
    # The trainer evaluates windows, with what their first half gives; the callback need not.
    callback = E2Callback(dataclasses.replace(config, validation_windows=()), args.seed)
    trainer = E2Trainer(
        args, callback, windows, model=model, args=hf, train_dataset=train, eval_dataset=valid
    )
    _watch(trainer, args)
    if hf.process_index == 0:
        for finding in findings(
            args, config, model, callback.positions.own, data, hf.world_size, resumed
        ):
            print(f"> {finding}", flush=True)
        for line in (*config.warnings(), *([warning] if warning else [])):
            print(f"WARNING: {line}", flush=True)
        if resumed is None:
            record.write(args, config, data.parts, source)
    try:
        trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    except torch.OutOfMemoryError as error:
        raise UserError(
            "the device's memory does not suffice; lower --micro-batch-size, add "
            "--gradient-checkpointing, or train a --lora"
        ) from error
    if hf.process_index == 0:
        _save(args, trainer, callback, tokenizer, data)
    trainer.accelerator.wait_for_everyone()


FOLDERS = ("save", "checkpoint_dir", "tensorboard_dir", "data_cache_path")  # to write to


def _check_folders(args: argparse.Namespace) -> None:
    """Every folder that the run will write to, before it computes anything."""
    if not args.model.is_dir():
        raise UserError(f"--model {args.model}: no such folder; name a Hugging Face model's")
    if args.save.exists() and (not args.save.is_dir() or any(args.save.iterdir())):
        raise UserError(f"--save {args.save}: already exists; remove it or name another folder")
    model, save = args.model.resolve(), args.save.resolve()
    for flag, folder in _folders(args):
        check_folder(folder, flag)
        path = folder.resolve()
        if path.is_relative_to(model):
            raise UserError(f"{flag}: lies in --model {args.model}, which is only read")
        if path != save and path.is_relative_to(save):
            raise UserError(f"{flag}: lies in --save {args.save}, which holds the model alone")


def _folders(args: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Flag with its value, and the folder."""
    for name in FOLDERS:
        folder = getattr(args, name)
        if folder:
            yield f"{flag_of(name)} {folder}", Path(folder)


@contextlib.contextmanager
def _naming_folders(args: argparse.Namespace) -> Iterator[None]:
    """Say of a file that cannot be written which flag has named its folder.

    Raises:
        UserError: the body fails for a file below such a folder.
    """
    try:
        yield
    except OSError as error:
        paths = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if name]
        for flag, folder in _folders(args):
            if any(path.absolute().is_relative_to(folder.absolute()) for path in paths):
                reason = error.strerror or brief(error)
                raise UserError(f"{flag}: cannot be written to ({reason})") from error
        raise


def _chosen(args: argparse.Namespace, first: bool) -> tuple[Path | None, str | None]:
    """The checkpoint to go on from, as the first process chooses it, and a warning."""
    from accelerate.utils import broadcast_object_list

    from e2_tools.tuning import checkpoints

    chosen = (None, None)
    if first:
        chosen = checkpoints.choose(args.checkpoint_dir, args.load_newest_whole)
    return broadcast_object_list([chosen])[0]


def _validation_windows(args: argparse.Namespace, data: Any, config: Any) -> dict[int, Any]:
    """Window -> as many of it as hold the tokens of an ordinary validation, at least one."""
    from megatron_patches.data.datasets import require_window

    tokens = args.eval_iters * args.global_batch_size * config.train_window
    found = {}
    for window in config.validation_windows:
        found[window] = data.windows(window, 0, max(1, tokens // window))[1]
        require_window(found[window].dataset, window)
    return found


def _watch(trainer: Any, args: argparse.Namespace) -> None:
    """Write curves for TensorBoard where the command line says, on one process."""
    if args.tensorboard_dir is None or trainer.args.process_index:
        return
    from transformers.integrations import TensorBoardCallback

    curves = TensorBoardCallback()
    curves.logging_dir = str(args.tensorboard_dir)
    trainer.add_callback(curves)


def _save(
    args: argparse.Namespace, trainer: Any, callback: Any, tokenizer: Path | None, data: Any
) -> None:
    import torch

    from e2_tools.tuning.save import save_adapter, save_model
    from megatron_patches.data.blend import as_records

    model = trainer.accelerator.unwrap_model(trainer.model)
    if args.lora and not args.merge:
        save_adapter(model, args.save, tokenizer)
        print(
            f"{args.save}: LoRA of rank {args.lora}, {args.train_iters} steps, of {args.model}; "
            "--merge saves a model that serves any window"
        )
        return
    if args.lora:
        model = model.merge_and_unload()
    config = save_model(
        model,
        callback.positions,
        args.save,
        source=args.model,
        tokenizer=tokenizer,
        iteration=args.train_iters,
        dtype=torch.bfloat16 if args.bf16 else torch.float32,
        data=as_records(data.parts),
    )
    print(
        f"{args.save}: {args.train_iters} steps, window {config['max_position_embeddings']}, "
        f"{config['dtype']}; serve another with tools/set_window.py"
    )
