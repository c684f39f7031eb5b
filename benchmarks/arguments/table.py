# SPDX-License-Identifier: Apache-2.0
"""What becomes of every argument of Megatron's in a run of pretrain_e2.py."""

import argparse
import dataclasses
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from benchmarks.arguments.reads import Source, fields_of
from megatron_patches.start.refused import Typed, flags_of, reason_to_refuse, te_reason
from megatron_patches.start.refused_tables import ALWAYS, NO_EFFECT

HONOURED = "honoured"
REFUSED = "refused"
NEEDS_TE = "refused without TE"
TOLD = "upstream ignores it"
UNKNOWN = "nothing reads it"


@dataclass(frozen=True)
class Row:
    """One argument.

    Attributes:
        dest: its name.
        flag: as a command line says it.
        fate: what becomes of it.
        why: the module that reads it, or the reason why it is refused.
    """

    dest: str
    flag: str
    fate: str
    why: str


def megatron_parser() -> argparse.ArgumentParser:
    """The parser of every argument of Megatron's, without ours."""
    from megatron.training import arguments

    found: list[argparse.ArgumentParser] = []
    with _no_command_line():
        arguments.parse_args(lambda parser: found.append(parser) or parser)
    return found[0]


def rows(parser: argparse.ArgumentParser) -> dict[str, list[Row]]:
    """Group -> its arguments, of the whole parser."""
    places = read_somewhere()
    return {
        title: [
            refusal(dest, flag, title)
            or Row(dest, flag, HONOURED if dest in places else UNKNOWN, places.get(dest, ""))
            for dest, flag in arguments.items()
        ]
        for title, arguments in groups(parser).items()
    }


def groups(parser: argparse.ArgumentParser) -> dict[str, dict[str, str]]:
    """Group -> name -> flag, of the whole parser."""
    flags, found = flags_of(parser), {}
    for group in parser._action_groups:
        names = dict.fromkeys(action.dest for action in group._group_actions)
        names.pop("help", None)
        if names:
            found[group.title or ""] = {name: flags[name] for name in names}
    return found


def refusal(dest: str, flag: str, group: str) -> Row | None:
    """What becomes of an argument that is not taken as it is; None if it is."""
    reason = reason_to_refuse(Typed(dest, flag, group))
    if reason:
        return Row(dest, flag, REFUSED, reason)
    reason = te_reason(dest)
    if reason:
        return Row(dest, flag, NEEDS_TE, reason)
    return Row(dest, flag, TOLD, NO_EFFECT[dest]) if dest in NO_EFFECT else None


@lru_cache(maxsize=1)
def read_somewhere() -> dict[str, str]:
    """Every argument that a run reads, and a module that does."""
    return Source().read(configuration_fields())


def values_refused() -> Iterator[tuple[str, str, str]]:
    """(name, value, reason) of arguments of which one value is refused."""
    for name, reason in ALWAYS.items():
        dest, is_value, value = name.partition("=")
        if is_value:
            yield dest, value, reason


def configuration_fields() -> set[str]:
    """Names of the fields of every configuration that Megatron fills from arguments."""
    import megatron.training.config as training
    from megatron.core.distributed import DistributedDataParallelConfig
    from megatron.core.optimizer import optimizer_config
    from megatron.core.transformer.heterogeneous.heterogeneous_config import (
        HeterogeneousTransformerConfig,
    )
    from megatron.core.transformer.transformer_config import MLATransformerConfig
    from megatron.training.models.gpt import GPTModelConfig

    kinds = [DistributedDataParallelConfig, GPTModelConfig]
    kinds += [MLATransformerConfig, HeterogeneousTransformerConfig]
    for module in (training, optimizer_config):
        kinds += [kind for _, kind in inspect.getmembers(module, inspect.isclass)
                  if dataclasses.is_dataclass(kind)]  # fmt: skip
    kinds.remove(training.InferenceSetupConfig)
    kinds.remove(training.InferenceConfigContainer)
    return fields_of(*kinds)


@contextmanager
def _no_command_line() -> Iterator[None]:
    before, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = before
