# SPDX-License-Identifier: Apache-2.0
"""Does the checkpoint that a run starts from hold the model that its arguments describe?

Megatron finds out while loading, from the shapes, in a page of text; what leaves no trace in a
shape (the base of RoPE, the kind of norm, how positions were drawn) it does not find out at all.
"""

import argparse
import contextlib
import copy
import io
from collections.abc import Mapping
from pathlib import Path

from e2_common.disk.checkpoint_folder import RELEASE, tracked
from e2_common.errors import UserError, brief
from e2_common.model_sizes import query_groups
from e2_llm.arguments import config_from_args
from e2_llm.config import differences
from e2_llm.registry import method_class
from megatron_patches.checkpoint.model_fields import counts, of_the_model
from megatron_patches.checkpoint.optimizer_state import check_optimizer_state
from megatron_patches.checkpoint.schedule import check_schedule
from megatron_patches.checkpoint.starting_point import source_of
from megatron_patches.data.blend import changed_blend


def check_checkpoint(args: argparse.Namespace, flags: Mapping[str, str]) -> list[str]:
    """Compare the run's arguments with those stored in the checkpoint it will load.

    Args:
        args: Megatron's, validated.
        flags: name -> flag, of every argument that the parser knows.

    Returns:
        Warnings, a line each.

    Raises:
        UserError: the checkpoint is unreadable or of another model.
    """
    source = source_of(args)
    if source is None:
        return []
    where = _where(args, source)
    stored = _stored_arguments(args, source)
    if stored is None:
        return [f"{where}: holds no arguments, so the model's shape was not checked"]
    wrong = [
        f"{flags[name]} is {_value(stored, name)} there and {_value(args, name)} here"
        for name in of_the_model(flags)
        if hasattr(stored, name)
        and counts(name, stored, args)
        and _value(stored, name) != _value(args, name)
    ]
    if wrong:
        mend = (
            "drop the flags" if args.use_checkpoint_args else "--use-checkpoint-args takes it over"
        )
        raise UserError(f"{where}: another model: {'; '.join(wrong)} ({mend})")
    resumed = source == "load" and not args.finetune and tracked(Path(args.load)) != RELEASE
    if resumed and not args.e2_override:
        _require_same_positions(stored, args, where)
    warnings = _other_fixed_scaling(stored, args, where)
    if resumed:
        check_optimizer_state(stored, args, where)
        warnings += check_schedule(stored, args, where)
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


def checkpoint_arguments(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments stored in the checkpoint that a run starts from; none without one.

    Args:
        args: Megatron's, parsed, perhaps not validated.

    Raises:
        UserError: the checkpoint is unreadable.
    """
    source = source_of(args)
    return (_stored_arguments(args, source) if source else None) or argparse.Namespace()


def model_of(stored: argparse.Namespace, flags: Mapping[str, str]) -> dict[str, object]:
    """The model that ``--use-checkpoint-args`` takes over, by attribute.

    Megatron's own taking over leaves out what shows in no shape, such as ``--no-rope-freq``.

    Args:
        stored: arguments of the checkpoint.
        flags: name -> flag, of every argument that the parser knows.
    """
    return {
        name: getattr(stored, name)
        for name in of_the_model(flags)
        if hasattr(stored, name) and counts(name, stored)
    }


def _where(args: argparse.Namespace, source: str) -> str:
    return f"--{source.replace('_', '-')} {getattr(args, source)}"


def _other_fixed_scaling(
    stored: argparse.Namespace, args: argparse.Namespace, where: str
) -> list[str]:
    """A model that serves one fixed factor is not what E2 should start from unawares."""
    method, factor = getattr(stored, "position_method", "none"), getattr(stored, "e2_factor", 1)
    if method == args.position_method or method_class(method).serves_any_window:
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
    changes = differences(config_from_args(stored, stored=True), config_from_args(args))
    if method_class(args.position_method).draws() and stored.seed != args.seed:
        changes.append(f"--seed {stored.seed} there, {args.seed} here")
    if changes:
        raise UserError(
            f"{where}: was trained with other positions: {'; '.join(changes)}. Use the same, "
            "--finetune to start anew from its weights, or --e2-override to go on all the same"
        )


def _value(args: argparse.Namespace, name: str) -> object:
    value = query_groups(args) if name == "num_query_groups" else getattr(args, name)
    return list(value) if isinstance(value, tuple) else value


def _stored_arguments(args: argparse.Namespace, source: str) -> argparse.Namespace | None:
    from megatron.training.checkpointing import load_args_from_checkpoint
    from torch.distributed.checkpoint import CheckpointException

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it tells every argument it takes over
            found = load_args_from_checkpoint(copy.copy(args), load_arg=source)
    # A damaged file can raise nearly anything, and torch's own error is no Exception.
    except (Exception, CheckpointException) as error:
        where = _where(args, source)
        raise UserError(
            f"{where}: cannot be read ({brief(error)}); it may be incomplete"
        ) from error
    return found[1] if isinstance(found, tuple) else None
