# SPDX-License-Identifier: Apache-2.0
"""Arguments that mean nothing without another one: told, and refused where the model is meant."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from e2_common.errors import UserError
from megatron_patches.start.refused import Typed, matches


@dataclass(frozen=True)
class Owner:
    """What gives arguments their meaning.

    Attributes:
        flag: as the command line says it.
        there: whether a run has it.
        owned: names of the arguments, in which ``*`` stands for anything.
        of_the_model: whether they would make another model.
    """

    flag: str
    there: Callable[[argparse.Namespace], object]
    owned: tuple[str, ...]
    of_the_model: bool = True


OWNERS = (
    Owner(
        "--group-query-attention", lambda args: args.group_query_attention, ("num_query_groups",)
    ),
    Owner("--num-experts", lambda args: args.num_experts, ("moe_*",)),
    Owner("--mtp-num-layers", lambda args: args.mtp_num_layers, ("mtp_*",)),
    Owner("--use-mup", lambda args: args.use_mup, ("mup_*",)),
    Owner("--window-size", lambda args: args.window_size, ("window_attn_skip_freq",)),
    Owner("--use-rope-scaling", lambda args: args.use_rope_scaling, ("rope_scaling_factor",)),
    Owner(
        "--experimental-attention-variant",
        lambda args: args.experimental_attention_variant,
        ("linear_*",),
    ),
    Owner(
        "--kitchen-config-file",
        lambda args: (
            getattr(args, "kitchen_config_file", None) is not None
            or getattr(args, "kitchen_recipe_number", None) is not None
        ),
        ("use_kitchen_attention", "kitchen_attention_backend"),
    ),
    Owner("--qk-clip", lambda args: args.qk_clip, ("qk_clip_*",), of_the_model=False),
    Owner(
        "--fp16",
        lambda args: args.fp16,
        ("loss_scale", "*_loss_scale", "loss_scale_window", "hysteresis"),
        of_the_model=False,
    ),
    Owner("--optimizer sgd", lambda args: args.optimizer == "sgd", ("sgd_*",), of_the_model=False),
    Owner(
        "--optimizer adam", lambda args: args.optimizer != "sgd", ("adam_*",), of_the_model=False
    ),
    Owner(
        "--optimizer lion", lambda args: args.optimizer == "lion", ("lion_*",), of_the_model=False
    ),
    Owner(
        "--optimizer muon", lambda args: "muon" in args.optimizer, ("muon_*",), of_the_model=False
    ),
    Owner(
        "--lr-decay-style WSD",
        lambda args: args.lr_decay_style == "WSD",
        ("lr_wsd_*",),
        of_the_model=False,
    ),
)


def check_owners(told: list[Typed], args: argparse.Namespace) -> list[str]:
    """Look for arguments without the one that they belong to.

    Args:
        told: what the command line sets.
        args: Megatron's, validated.

    Returns:
        A line for each that would change no model.

    Raises:
        UserError: the model would not be the one that was asked for.
    """
    notes = []
    for one in told:
        for owner in OWNERS:
            if owner.there(args) or not any(matches(name, one.dest) for name in owner.owned):
                continue
            line = f"{one.flag}: means nothing without {owner.flag}"
            if owner.of_the_model:
                raise UserError(f"{line}; give both or neither")
            notes.append(line)
    return notes
