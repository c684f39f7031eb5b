# SPDX-License-Identifier: Apache-2.0
"""The command line of ``train_e2_hf.py``; what Megatron has too is called as there."""

import argparse
import contextlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from e2_common.errors import UserError
from e2_llm.arguments import add_arguments
from e2_tools.arguments import flag_of
from e2_tools.tuning.lora_arguments import add_lora, check_lora

DECAY_STYLES = ("constant", "linear", "cosine", "inverse-square-root")
ATTENTION = ("sdpa", "eager", "flash_attention_2")


# What the flags of commands whose parts are used here are called here.
_OURS = {
    "--hf-model": "--model",
    "--tokenizer-model": "--model",
    "--base-window": "--e2-base-window",
    "--input": "--text",
    "--json-keys": "--json-key",
}


@contextlib.contextmanager
def our_flags() -> Iterator[None]:
    """Have a refusal of the body name the flags of this command."""
    try:
        yield
    except UserError as error:
        pattern = "|".join(rf"(?<![\w-]){flag}(?![\w-])" for flag in _OURS)
        raise UserError(re.sub(pattern, lambda found: _OURS[found[0]], str(error))) from error


# Flags of Megatron that people will try here.
_NOT_HERE = {
    "--reset-attention-mask": "--dataloader-inter-document-masking keeps documents apart",
    "--reset-position-ids": "--dataloader-inter-document-masking begins anew in every document",
    "--tensor-model-parallel-size": "a process holds the whole model; pretrain_e2.py splits it",
    "--pipeline-model-parallel-size": "a process holds the whole model; pretrain_e2.py splits it",
    "--context-parallel-size": "a process holds the whole window; pretrain_e2.py splits it",
    "--recompute-granularity": "--gradient-checkpointing computes each layer again",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Refuse on one line; argparse would print a usage of pages first."""
        for word in message.split():
            if word in _NOT_HERE:
                raise UserError(f"{word}: is Megatron's and not known here; {_NOT_HERE[word]}")
        raise UserError(f"{message} (--help lists every argument)")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = _Parser(
        description="Train with E2-LLM positions on transformers: a Hugging Face folder in, one "
        "out that set_window.py, the evaluations and servers take.",
        epilog="Alone or under torchrun. Started again, it goes on from its last checkpoint. See "
        "docs/transformers.md.",
        allow_abbrev=False,
    )
    _add_model(parser.add_argument_group("model"))
    _add_data(parser.add_argument_group("data"))
    _add_training(parser.add_argument_group("training"))
    group = parser.add_argument_group("LoRA")
    add_lora(group)
    group.add_argument(
        "--merge",
        action="store_true",
        help="save the model with the LoRA merged into it, not the adapter alone",
    )
    add_arguments(parser)
    # What else the checks of a blend and of a configuration ask Megatron's arguments for.
    parser.set_defaults(mock_data=False, data_args_path=None, per_split_data_args_path=None)
    parser.set_defaults(train_data_path=None, valid_data_path=None, test_data_path=None)
    return parser


def _add_model(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="Hugging Face folder to start at")
    add("--save", type=Path, required=True, metavar="DIR", help="folder of the trained model")
    add(
        "--rope-scaling",
        choices=["original", "keep"],
        help="undo a llama3 or yarn scaling that the model has: L is then the window before it",
    )
    add(
        "--full-attention",
        action="store_true",
        help="train without the sliding window that the model was pre-trained with",
    )
    add(
        "--attention",
        choices=ATTENTION,
        default="sdpa",
        help="attention of transformers (default: sdpa)",
    )


def _add_data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--data-path",
        nargs="+",
        metavar="PREFIX",
        help="indexed datasets of preprocess_data.py, or weights and datasets in turn: the same "
        "windows in the same order as in Megatron",
    )
    add(
        "--text",
        nargs="+",
        metavar="FILE",
        help="texts instead, as preprocess_data.py reads them: .txt is a document, else JSON "
        "lines; they are tokenised into --checkpoint-dir first",
    )
    add("--json-key", default="text", metavar="KEY", help="of JSON lines (default: text)")
    add(
        "--split",
        default="969, 30, 1",
        help="shares of training, validation and test (default: %(default)s)",
    )
    add("--data-cache-path", metavar="DIR", help="folder of the indices of the datasets")
    add(
        "--ignore-loss-masks",
        action="store_true",
        help="train on every token, also of datasets with a loss mask beside them",
    )
    add(
        "--dataloader-inter-document-masking",
        action="store_true",
        help="keep the documents of a window apart: each sees itself alone and is placed as a "
        "window of its own length",
    )
    add("--eod-mask-loss", action="store_true", help="do not train what follows a document's end")
    add("--seq-length", type=int, metavar="R", help="the training window R (default: L)")


def _add_training(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--train-iters", type=int, required=True, metavar="N", help="optimizer steps")
    add("--micro-batch-size", type=int, default=1, metavar="N", help="windows at a time (1)")
    add(
        "--global-batch-size",
        type=int,
        metavar="N",
        help="windows of a step, over all processes (default: one micro-batch of each process)",
    )
    add("--lr", type=float, required=True, metavar="LR", help="learning rate")
    add("--min-lr", type=float, default=0.0, metavar="LR", help="where a decay ends (0)")
    add(
        "--lr-decay-style",
        choices=DECAY_STYLES,
        default="linear",
        help="(default: linear)",
    )
    add("--lr-warmup-iters", type=int, default=0, metavar="N", help="steps of warm-up (0)")
    add("--lr-warmup-fraction", type=float, metavar="X", help="warm-up as a share of the steps")
    add("--weight-decay", type=float, default=0.01, metavar="X", help="of matrices (0.01)")
    add("--clip-grad", type=float, default=1.0, metavar="X", help="largest gradient norm (1.0)")
    add("--adam-beta1", type=float, default=0.9, metavar="X", help="(0.9)")
    add("--adam-beta2", type=float, default=0.999, metavar="X", help="(0.999)")
    add("--adam-eps", type=float, default=1e-8, metavar="X", help="(1e-8)")
    add("--seed", type=int, default=1234, metavar="N", help="of draws and data (1234)")
    add("--bf16", action="store_true", help="compute in bf16; weights stay fp32 but under LoRA")
    add(
        "--gradient-checkpointing",
        action="store_true",
        help="compute each layer again in the backward pass, to save memory",
    )
    add("--eval-interval", type=int, default=1000, metavar="N", help="steps (1000)")
    add("--eval-iters", type=int, default=0, metavar="N", help="batches of a validation; 0: none")
    add("--log-interval", type=int, default=10, metavar="N", help="steps (10)")
    add("--tensorboard-dir", type=Path, metavar="DIR", help="curves for TensorBoard")
    add("--save-interval", type=int, default=500, metavar="N", help="steps to a checkpoint (500)")
    add(
        "--checkpoint-dir",
        type=Path,
        metavar="DIR",
        help="folder of the checkpoints (default: that of --save, with -checkpoints behind it)",
    )
    add(
        "--keep-checkpoints",
        type=int,
        default=1,
        metavar="N",
        help="how many; with 2 a damaged one has one before it (1)",
    )
    add(
        "--load-newest-whole",
        action="store_true",
        help="if the newest checkpoint is damaged, go on from the newest whole one and say so",
    )


def check(args: argparse.Namespace, world: int) -> None:
    """Refuse numbers out of range and flags that contradict each other; fill in what follows.

    Args:
        args: of :func:`build_parser`.
        world: number of processes.

    Raises:
        UserError: naming the flag.
    """
    if args.rope_scaling == "keep":
        raise UserError(
            "--rope-scaling keep: would hold the one factor that the model has, so that no scale "
            "is left to draw; original undoes it, --position-method with --e2-factor trains at one"
        )
    for name, value in vars(args).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{flag_of(name)} {value}: must be a finite number")
    if args.seed >= 2**32:  # numpy's limit, which shuffles the data
        raise UserError(f"--seed {args.seed}: must be below 2^32")
    positive = ("train_iters", "micro_batch_size", "log_interval", "save_interval", "seed")
    positive += ("eval_interval", "keep_checkpoints")
    for name in (*positive, "lr", "seq_length", "global_batch_size"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            raise UserError(f"{flag_of(name)} {value}: must be above 0")
    for name in ("min_lr", "lr_warmup_iters", "eval_iters", "weight_decay", "clip_grad"):
        if getattr(args, name) < 0:
            raise UserError(f"{flag_of(name)} {getattr(args, name)}: must not be negative")
    for name in ("adam_beta1", "adam_beta2"):
        if not 0 <= getattr(args, name) < 1:
            raise UserError(f"{flag_of(name)} {getattr(args, name)}: must be from 0 to below 1")
    if args.min_lr > args.lr:
        raise UserError(f"--min-lr {args.min_lr:g}: is above --lr {args.lr:g}")
    if args.lr_warmup_fraction is not None:
        if args.lr_warmup_iters:
            raise UserError("--lr-warmup-fraction and --lr-warmup-iters exclude each other")
        if not 0 <= args.lr_warmup_fraction < 1:
            raise UserError(
                f"--lr-warmup-fraction {args.lr_warmup_fraction}: must be from 0 to below 1"
            )
        args.lr_warmup_iters = args.lr_warmup_fraction * args.train_iters
    if args.lr_warmup_iters >= args.train_iters:
        raise UserError(
            f"--lr-warmup-iters {args.lr_warmup_iters}: must be below --train-iters "
            f"{args.train_iters}"
        )
    if bool(args.data_path) == bool(args.text):
        raise UserError("one of --data-path and --text is needed, to train on")
    ranks = args.micro_batch_size * world
    args.global_batch_size = args.global_batch_size or ranks
    if args.global_batch_size % ranks:
        raise UserError(
            f"--global-batch-size {args.global_batch_size}: is no multiple of {ranks} "
            "(--micro-batch-size times the processes)"
        )
    if args.e2_validation_windows and not args.eval_iters:
        raise UserError("--e2-validation-windows: needs --eval-iters above 0")
    several = args.micro_batch_size > 1 and args.attention == "flash_attention_2"
    if args.dataloader_inter_document_masking and several:
        raise UserError(
            "--dataloader-inter-document-masking: --attention flash_attention_2 keeps the "
            "documents of one window apart only; take --micro-batch-size 1, or sdpa"
        )
    _check_split(args.split)
    check_lora(args, build_parser())
    if args.save.name in ("", ".."):
        raise UserError(f"--save {args.save}: name a folder to make")
    if args.checkpoint_dir is None:
        args.checkpoint_dir = args.save.with_name(f"{args.save.name}-checkpoints")


def _check_split(text: str) -> None:
    try:
        shares = [float(share) for share in re.split(r"[,/]", text)]
    except ValueError:
        shares = []
    if not 1 <= len(shares) <= 3 or any(share < 0 for share in shares) or not shares[0]:
        raise UserError(
            f"--split {text}: up to three shares are needed, as in 969,30,1, the first above 0"
        )
