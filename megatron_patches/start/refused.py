# SPDX-License-Identifier: Apache-2.0
"""Refuses arguments that Megatron's parser takes and this program would do nothing with.

Where the command line names them, since what was asked for would silently not happen.
``benchmarks/arguments`` finds in the source what nothing reads, and its tests hold the tables.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from e2_common.errors import UserError
from megatron_patches.start.refused_tables import ALWAYS, GROUPS, KEPT, LOCAL_LAYERS, NO_EFFECT


@dataclass(frozen=True)
class Typed:
    """An argument that the command line sets to another value than its default.

    Attributes:
        dest: its name among the arguments.
        flag: as it was typed.
        group: the parser's group.
        value: what it is set to.
    """

    dest: str
    flag: str
    group: str
    value: object = None


def flags_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Name -> flag, of every argument that a parser knows."""
    return {
        action.dest: action.option_strings[0]
        for action in reversed(parser._actions)  # of two flags for one name the first
        if action.option_strings
    }


def typed(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[Typed]:
    """What the command line sets.

    Args:
        parser: with the defaults that hold without a command line.
        args: as it parsed them.
    """
    words = _words()
    return [
        Typed(action.dest, flags[0], group.title or "", getattr(args, action.dest, None))
        for group in parser._action_groups
        for action in group._group_actions
        if (flags := [flag for flag in action.option_strings if flag in words])
        and getattr(args, action.dest, None) != parser.get_default(action.dest)
    ]


def _words() -> set[str]:
    return {word.partition("=")[0] for word in sys.argv[1:]}


def refuse_yaml() -> None:
    """Refuse ``--yaml-cfg`` before Megatron's parsing reads the file.

    Raises:
        UserError: it is on the command line.
    """
    if "--yaml-cfg" in _words():
        raise UserError(f"--yaml-cfg: {ALWAYS['yaml_cfg']}; drop it")


def taken_over(parser: argparse.ArgumentParser, model: Mapping[str, object]) -> list[Typed]:
    """What ``--use-checkpoint-args`` sets as if the command line did.

    Args:
        parser: with the defaults that hold without a command line.
        model: the arguments that it takes over.
    """
    flags = flags_of(parser)
    return [
        Typed(name, f"--use-checkpoint-args takes over {flags[name]}", "", value)
        for name, value in model.items()
        if value != parser.get_default(name)
    ]


def refuse_ignored(told: list[Typed]) -> list[str]:
    """Refuse what would do nothing, whatever the run is like.

    Args:
        told: what the command line sets.

    Returns:
        A line for each argument that has no effect and need not be refused.

    Raises:
        UserError: an argument would be ignored.
    """
    for one in told:
        reason = reason_to_refuse(one)
        if reason:
            raise UserError(f"{one.flag}: {reason}; drop it")
    return list(_without_effect(told))


def refuse_without_te(told: list[Typed], transformer_impl: str) -> None:
    """Refuse what only Transformer Engine's layers have, where the layers are Megatron's own.

    Args:
        told: what the command line sets.
        transformer_impl: the layers of the run.

    Raises:
        UserError: an argument would be ignored.
    """
    if transformer_impl != "local":
        return
    for one in told:
        reason = te_reason(one.dest)
        if reason:
            raise UserError(
                f"{one.flag}: {reason}, and this run has Megatron's local ones; "
                "install Transformer Engine, or drop it"
            )


def refuse_overruled(
    told: list[Typed], args: argparse.Namespace, stored: argparse.Namespace
) -> None:
    """Refuse what ``--use-checkpoint-args`` has replaced by what the checkpoint says.

    Args:
        told: what the command line sets.
        args: Megatron's, validated.
        stored: the checkpoint's, if they were taken over.

    Raises:
        UserError: an argument of the command line is no longer what it was set to.
    """
    for one in told:
        value = getattr(args, one.dest, one.value)
        if value != one.value and value == getattr(stored, one.dest, one.value):
            raise UserError(
                f"{one.flag} {one.value}: --use-checkpoint-args takes the checkpoint's {value}; "
                "drop one of the two"
            )


def reason_to_refuse(one: Typed) -> str | None:
    """Why an argument is refused in every run; None if it is not."""
    reason = _reason(ALWAYS, one.dest) or ALWAYS.get(f"{one.dest}={one.value}")
    if reason or one.dest in KEPT:
        return reason
    return GROUPS.get(one.group)


def te_reason(dest: str) -> str | None:
    """Why an argument is refused with local layers; None if it is not."""
    return _reason(LOCAL_LAYERS, dest)


def _reason(table: Mapping[str, str], dest: str) -> str | None:
    return next((reason for name, reason in table.items() if matches(name, dest)), None)


def matches(pattern: str, name: str) -> bool:
    """Whether a name is meant by an entry of a table, in which ``*`` stands for anything."""
    return fnmatchcase(name, pattern)


def _without_effect(told: list[Typed]) -> Iterator[str]:
    for one in told:
        if one.dest in NO_EFFECT:
            yield f"{one.flag}: Megatron 0.19.2 reads it nowhere: {NO_EFFECT[one.dest]}"
