# SPDX-License-Identifier: Apache-2.0
"""The configuration as command-line flags, and from the arguments of a run or a checkpoint."""

import argparse
import dataclasses
from typing import Any

from e2_common.errors import UserError
from e2_llm import recipes
from e2_llm.config import E2Config, flag_name, resolved
from e2_llm.frequencies import Llama3Scaling, OwnRope
from e2_llm.placements import PLACEMENTS, READ_BY_PLACEMENTS, parse_mixture
from e2_llm.registry import METHODS, methods_that_read


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
        options = {
            name: option if name == "type" else resolved(option)
            for name, option in item.metadata.items()
        }
        if item.name in recipes.CHOICES:  # None: not given, the recipe has it
            options["help"] += f" Default: that of --e2-recipe ({item.default})."
        elif options.get("action") != "store_true":
            options["default"] = item.default
            if item.default not in (None, 0, (), 1.0):
                options["help"] += " Default: %(default)s."
        group.add_argument(flag_name(item.name), **options)
    group.add_argument(
        "--e2-recipe",
        choices=tuple(recipes.RECIPES),
        help="The three choices of e2 together, each of which its own flag overrules: "
        f"{'; '.join(map(_recipe_help, recipes.RECIPES))}. Default: {recipes.DEFAULT}.",
    )
    group.add_argument(
        "--e2-override",
        action="store_true",
        help="Resume a run although its checkpoint was trained with other --e2-* values, and train "
        "a model that cannot be exported.",
    )
    return parser


def config_from_args(args: argparse.Namespace, stored: bool = False) -> E2Config:
    """Build the configuration from Megatron's arguments; fills R, and L when it is not given.

    Args:
        args: of a command line, or those that a checkpoint stores. Arguments that came later than
            the checkpoint have their defaults; a plain Megatron run has method ``none``.
        stored: whether they are a checkpoint's. What its run did not read then has today's
            default, whatever the default was when it was saved; on a command line it is refused.

    Raises:
        UserError: a value is missing or out of range.
        AttributeError: the windows are not among the arguments.
    """
    defaults = {item.name: item.default for item in dataclasses.fields(E2Config) if item.metadata}
    defaults["position_method"] = "none"
    values: dict[str, Any] = {
        name: getattr(args, argument_name(name), default) for name, default in defaults.items()
    }
    recipe = getattr(args, "e2_recipe", None)
    if recipe and values["position_method"] != "e2":
        raise UserError(
            f"--e2-recipe is only for --position-method e2, not {values['position_method']}"
        )
    for name, value in recipes.RECIPES[recipe or recipes.DEFAULT].items():
        if values[name] is None:
            values[name] = value
    if stored:
        values |= {name: defaults[name] for name in _not_read(values)}
    if args.seq_length is None:
        raise UserError("--seq-length is missing: the training window R, in tokens")
    values["train_window"] = args.seq_length
    values["base_window"] = values["base_window"] or args.max_position_embeddings
    if values["base_window"] is None:
        raise UserError("--max-position-embeddings is missing: the pre-trained window L, in tokens")
    values["validation_windows"] = tuple(values["validation_windows"])
    values["curriculum"] = tuple(values["curriculum"])
    method = METHODS.get(values["position_method"])
    if values["curriculum"] or (method and method.stages):
        values["planned_samples"] = _planned_samples(args)
    return E2Config(**values)


def _not_read(values: dict[str, Any]) -> list[str]:
    """Fields that the method and the placements of a run do not read."""
    method = METHODS.get(values["position_method"])
    if method is None:  # refused by who looks it up
        return []
    reads = set(method.reads)
    if "placement" in reads:
        used = [PLACEMENTS[part.name] for part in parse_mixture(values["placement"])]
        reads.difference_update(READ_BY_PLACEMENTS)
        reads |= {name for part in used for name in part.reads}
    return [name for name in values if methods_that_read(name) and name not in reads]


def store(args: argparse.Namespace, config: E2Config) -> None:
    """Write the choices of a recipe into the arguments, which a checkpoint stores."""
    for name in recipes.CHOICES:
        setattr(args, argument_name(name), getattr(config, name))


def _planned_samples(args: argparse.Namespace) -> int:
    """Windows of the whole run; 0 while the arguments do not say so yet."""
    names = ("train_samples", "train_iters", "global_batch_size")
    samples, iterations, batch = (getattr(args, name, None) or 0 for name in names)
    return samples or iterations * batch


def _recipe_help(name: str) -> str:
    return f"{name}: {', '.join(map(str, recipes.RECIPES[name].values()))}"


def own_rope(args: argparse.Namespace) -> OwnRope:
    """The RoPE of the model before any scale of ours, from Megatron's arguments.

    Args:
        args: of a command line, or those that a checkpoint stores.

    Raises:
        AttributeError: the base is not among the arguments.
    """
    factor = getattr(args, "rotary_seq_len_interpolation_factor", None) or 1
    llama3 = None
    if getattr(args, "use_rope_scaling", False):
        llama3 = Llama3Scaling(float(getattr(args, "rope_scaling_factor", None) or 8.0))
    return OwnRope(float(args.rotary_base), float(factor), llama3)
