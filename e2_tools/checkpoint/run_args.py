# SPDX-License-Identifier: Apache-2.0
"""What a Megatron run's arguments say about the model and about E2-LLM, checked."""

import argparse
from dataclasses import dataclass
from typing import Any

from e2_common.errors import UserError
from e2_common.model_sizes import ModelSizes
from e2_llm.arguments import config_from_args, own_rope
from e2_llm.exported import Exported
from e2_llm.methods import method_for
from megatron_patches.checkpoint.model_arguments import check_family, kind_of, without_rope


@dataclass(frozen=True)
class RunArgs:
    """The part of a run's arguments that an export needs.

    ``sizes`` may lack the vocabulary. ``kind`` holds what tells the families apart, and
    ``without_rope`` a 1 for each layer that rotates nothing, if there are any. ``exported`` is what
    config.json will remember; ``trained_scale`` is the one g that was trained, or None if many were
    (E2-LLM proper). ``placed`` says where tokens were placed, if that was a choice.
    """

    sizes: ModelSizes
    kind: frozenset[str]
    without_rope: list[int] | None
    norm_eps: float
    dtype: str
    init_std: float
    tokenizer: str | None
    exported: Exported
    trained_scale: float | None
    draw_per: str
    placed: str | None
    data: list[dict[str, Any]]


def run_args(common: dict[str, Any]) -> RunArgs:
    """Read a checkpoint's common state.

    Args:
        common: from :meth:`TorchDistReader.common`.

    Raises:
        UserError: arguments are missing, or the model is of no family; every reason is named.
    """
    args = common.get("args") if isinstance(common, dict) else None
    if not isinstance(args, argparse.Namespace):
        raise UserError("--load: the checkpoint holds no arguments; save it with Megatron's train")
    try:
        return _read(args, common.get("iteration"))
    except AttributeError as error:
        raise UserError(f"--load: the checkpoint's arguments lack {error.name}") from error


def _read(args: argparse.Namespace, iteration: int | None) -> RunArgs:
    positions = config_from_args(args, stored=True)
    method = method_for(positions)
    try:
        check_family(args, positions)
    except UserError as reason:
        raise UserError(f"--load: {reason}") from reason
    exported = Exported.of_training(method, own=own_rope(args), iteration=iteration)
    return RunArgs(
        sizes=ModelSizes.from_arguments(args),
        kind=kind_of(args),
        without_rope=without_rope(args),
        norm_eps=_first(args, "layernorm_epsilon", "norm_epsilon"),
        dtype=str(args.params_dtype).removeprefix("torch."),
        init_std=getattr(args, "init_method_std", 0.02),
        tokenizer=getattr(args, "tokenizer_model", None),
        exported=exported,
        trained_scale=method.trained_scale,
        draw_per=positions.draw_per,
        placed=method.placed,
        data=getattr(args, "data_blend", []),
    )


def _first(args: argparse.Namespace, *names: str) -> Any:
    for name in names:
        if getattr(args, name, None) is not None:
            return getattr(args, name)
    return getattr(args, names[0])
