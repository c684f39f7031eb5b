# SPDX-License-Identifier: Apache-2.0
"""The flags that say which LoRA is trained, or planned."""

import argparse

from e2_common.errors import UserError
from e2_tools.arguments import flag_of

TRAINED_WHOLE = ("norms", "embeddings")


def add_lora(group: argparse._ArgumentGroup) -> None:
    """Add the flags that say which LoRA is trained, or planned."""
    add = group.add_argument
    add(
        "--lora",
        type=int,
        nargs="?",
        const=16,
        metavar="RANK",
        help="train a LoRA of this rank (16 where none is given) by PEFT, not the model",
    )
    add("--lora-alpha", type=float, metavar="X", help="(default: twice the rank)")
    add("--lora-dropout", type=float, default=0.0, metavar="P", help="(0)")
    add(
        "--lora-targets",
        nargs="+",
        default=["q_proj", "k_proj", "v_proj", "o_proj"],
        metavar="NAME",
        help="the matrices that get one (default: those of attention)",
    )
    add(
        "--lora-train-whole",
        nargs="+",
        choices=TRAINED_WHOLE,
        default=[],
        help="what is trained beside it, as LongLoRA advises (arXiv 2309.12307)",
    )


def check_lora(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Check the flags of :func:`add_lora`, and --merge where there is one; fill in alpha.

    Args:
        args: of the command line.
        parser: that read them.

    Raises:
        UserError: naming the flag.
    """
    for name in ("lora", "lora_alpha"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UserError(f"{flag_of(name)} {value}: must be above 0")
    if not 0 <= args.lora_dropout < 1:
        raise UserError(f"--lora-dropout {args.lora_dropout}: must be from 0 to below 1")
    if args.lora is not None:
        args.lora_alpha = args.lora_alpha or 2.0 * args.lora
        return
    for name in ("lora_alpha", "lora_dropout", "lora_targets", "lora_train_whole", "merge"):
        if getattr(args, name, None) != parser.get_default(name):
            raise UserError(f"{flag_of(name)} is only for --lora; give its rank, or drop it")
