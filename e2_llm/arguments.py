# SPDX-License-Identifier: Apache-2.0
"""The configuration as command-line flags, and from the arguments of a run or a checkpoint."""

import argparse
import dataclasses
from typing import Any

from e2_common.errors import UserError
from e2_llm.config import E2Config, flag_name, resolved


def argument_name(field_name: str) -> str:
    """The attribute of Megatron's arguments that holds a field of :class:`E2Config`."""
    return flag_name(field_name).removeprefix("--").replace("-", "_")


def add_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add a flag for every field that has a help text, with the field's own default."""
    group = parser.add_argument_group(
        "E2-LLM", "positions of a training window (arXiv 2401.06951, section 4.1)"
    )
    for item in dataclasses.fields(E2Config):
        if not item.metadata:
            continue
        options = {name: resolved(option) for name, option in item.metadata.items()}
        if options.get("action") != "store_true":
            options["default"] = item.default
            if item.default not in (None, 0, (), 1.0):
                options["help"] += " Default: %(default)s."
        group.add_argument(flag_name(item.name), **options)
    group.add_argument(
        "--e2-override",
        action="store_true",
        help="Resume a run although its checkpoint was trained with other --e2-* values, and train "
        "a model that cannot be exported.",
    )
    return parser


def config_from_args(args: argparse.Namespace) -> E2Config:
    """Build the configuration from Megatron's arguments; fills R, and L when it is not given.

    Args:
        args: of a command line, or those that a checkpoint stores. Arguments that came later than
            the checkpoint have their defaults; a plain Megatron run has method ``none``.

    Raises:
        UserError: a value is missing or out of range.
        AttributeError: the windows are not among the arguments.
    """
    defaults = {item.name: item.default for item in dataclasses.fields(E2Config) if item.metadata}
    defaults["position_method"] = "none"
    values: dict[str, Any] = {
        name: getattr(args, argument_name(name), default) for name, default in defaults.items()
    }
    if args.seq_length is None:
        raise UserError("--seq-length is missing: the training window R, in tokens")
    values["train_window"] = args.seq_length
    values["base_window"] = values["base_window"] or args.max_position_embeddings
    if values["base_window"] is None:
        raise UserError("--max-position-embeddings is missing: the pre-trained window L, in tokens")
    values["validation_windows"] = tuple(values["validation_windows"])
    return E2Config(**values)
