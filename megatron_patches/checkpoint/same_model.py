# SPDX-License-Identifier: Apache-2.0
"""Does the checkpoint that a run starts from hold the model that its arguments describe?

Megatron finds out while loading, from the shapes, in a page of text; what leaves no trace in a
shape (the base of RoPE, the kind of norm, how positions were drawn) it does not find out at all.
"""

import argparse
import contextlib
import copy
import io
import os

from e2_common.errors import UserError, brief
from e2_llm.config import config_from_args, differences
from megatron_patches.data.blend import changed_blend

# Arguments that make a model, and how the command line says them.
MODEL_ARGUMENTS = {
    "num_layers": "--num-layers",
    "hidden_size": "--hidden-size",
    "ffn_hidden_size": "--ffn-hidden-size",
    "num_attention_heads": "--num-attention-heads",
    "group_query_attention": "--group-query-attention",
    "num_query_groups": "--num-query-groups",
    "kv_channels": "--kv-channels",
    "untie_embeddings_and_output_weights": "--untie-embeddings-and-output-weights",
    "swiglu": "--swiglu",
    "normalization": "--normalization",
    "add_bias_linear": "--disable-bias-linear",
    "add_qkv_bias": "--add-qkv-bias",
    "qk_layernorm": "--qk-layernorm",
    "position_embedding_type": "--position-embedding-type",
    "rotary_base": "--rotary-base",
    "rotary_percent": "--rotary-percent",
    "rotary_interleaved": "--rotary-interleaved",
    "rotary_seq_len_interpolation_factor": "--rotary-seq-len-interpolation-factor",
    "layernorm_epsilon": "--norm-epsilon",
}
# Those that Megatron's --use-checkpoint-args forgets.
FORGOTTEN = ("qk_layernorm", "layernorm_epsilon", "rotary_seq_len_interpolation_factor")


def check_checkpoint(args: argparse.Namespace) -> list[str]:
    """Compare the run's arguments with those stored in the checkpoint it will load.

    Args:
        args: Megatron's, validated.

    Returns:
        Warnings, a line each.

    Raises:
        UserError: the checkpoint is unreadable or of another model.
    """
    flag = _flag(args)
    if flag is None:
        return []
    where = _where(args, flag)
    stored = _stored_arguments(args, flag)
    if stored is None:
        return [f"{where}: holds no arguments, so the model's shape was not checked"]
    wrong = [
        f"{option} is {_value(stored, name)} there and {_value(args, name)} here"
        for name, option in MODEL_ARGUMENTS.items()
        if hasattr(stored, name) and _value(stored, name) != _value(args, name)
    ]
    if wrong:
        raise UserError(
            f"{where}: another model: {'; '.join(wrong)} (--use-checkpoint-args takes them over)"
        )
    resumed = flag == "load" and not args.finetune and not _is_release(args.load)
    if resumed and not args.e2_override:
        _require_same_positions(stored, args, where)
    warnings = _other_fixed_scaling(stored, args, where)
    if resumed and getattr(stored, "data_blend", None) and args.data_blend:
        change = changed_blend(stored.data_blend, args.data_blend)
        warnings += [f"{where}: {change}"] if change else []
    rows = getattr(stored, "padded_vocab_size", args.padded_vocab_size)
    if rows != args.padded_vocab_size:
        warnings.append(
            f"{where}: its vocabulary is padded to {rows}, here to {args.padded_vocab_size}; the "
            "rows in between count in the softmax. Set --make-vocab-size-divisible-by so that "
            "both agree (it is multiplied by the tensor-parallel size)"
        )
    return warnings


def forgotten_arguments(args: argparse.Namespace) -> dict[str, object]:
    """What ``--use-checkpoint-args`` has to take over beside what Megatron does.

    Args:
        args: Megatron's, parsed, perhaps not validated.

    Returns:
        Values by attribute; empty without a checkpoint.

    Raises:
        UserError: the checkpoint is unreadable.
    """
    flag = _flag(args)
    stored = _stored_arguments(args, flag) if flag else None
    return {name: getattr(stored, name) for name in FORGOTTEN if hasattr(stored, name)}


def _is_release(folder: str) -> bool:
    """Whether a checkpoint was converted, not trained: Megatron starts from it at iteration 0."""
    with open(f"{folder}/latest_checkpointed_iteration.txt") as tracker:
        return tracker.read().strip() == "release"


def _flag(args: argparse.Namespace) -> str | None:
    """The argument that names the checkpoint which the run will load."""
    for flag in ("load", "pretrained_checkpoint"):
        folder = getattr(args, flag)
        if folder and os.path.exists(f"{folder}/latest_checkpointed_iteration.txt"):
            return flag
    return None


def _where(args: argparse.Namespace, flag: str) -> str:
    return f"--{flag.replace('_', '-')} {getattr(args, flag)}"


def _other_fixed_scaling(
    stored: argparse.Namespace, args: argparse.Namespace, where: str
) -> list[str]:
    """A model that serves one fixed factor is not what E2 should start from unawares."""
    method, factor = getattr(stored, "position_method", "none"), getattr(stored, "e2_factor", 1)
    if method in ("none", "e2") or method == args.position_method:
        return []
    return [
        f"{where}: serves the fixed factor {factor:g} by --position-method {method}; "
        f"this run's --position-method {args.position_method} starts from plain RoPE"
    ]


def _require_same_positions(
    stored: argparse.Namespace, args: argparse.Namespace, where: str
) -> None:
    """A resumed run goes on with the same draws, or says that it does not."""
    if not hasattr(stored, "position_method"):
        return  # saved by a plain Megatron run
    changes = differences(config_from_args(stored), config_from_args(args))
    if args.position_method == "e2" and stored.seed != args.seed:
        changes.append(f"--seed {stored.seed} there, {args.seed} here")
    if changes:
        raise UserError(
            f"{where}: was trained with other positions: {'; '.join(changes)}. Use the same, "
            "--finetune to start anew from its weights, or --e2-override to go on all the same"
        )


def _value(args: argparse.Namespace, name: str) -> object:
    if name == "num_query_groups" and not args.group_query_attention:
        return args.num_attention_heads  # Megatron writes this into it only while training
    return getattr(args, name)


def _stored_arguments(args: argparse.Namespace, flag: str) -> argparse.Namespace | None:
    from megatron.training.checkpointing import load_args_from_checkpoint
    from torch.distributed.checkpoint import CheckpointException

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it tells every argument it takes over
            found = load_args_from_checkpoint(copy.copy(args), load_arg=flag)
    # A damaged file can raise nearly anything, and torch's own error is no Exception.
    except (Exception, CheckpointException) as error:
        where = _where(args, flag)
        raise UserError(
            f"{where}: cannot be read ({brief(error)}); it may be incomplete"
        ) from error
    return found[1] if isinstance(found, tuple) else None
