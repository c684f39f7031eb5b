# SPDX-License-Identifier: Apache-2.0
"""What a Megatron run's arguments say about the model and about E2-LLM, checked."""

import argparse
import dataclasses
from dataclasses import dataclass
from typing import Any

from e2_common.errors import UserError
from e2_common.model_sizes import ModelSizes
from e2_llm.config import E2Config, argument_name
from megatron_patches.checkpoint.model_arguments import KNOWN, TELL_FAMILIES


@dataclass(frozen=True)
class RunArgs:
    """The part of a run's arguments that an export needs; windows in tokens.

    ``sizes`` may lack the vocabulary. ``kind`` holds what tells the families apart. ``own_factor``
    is a linear factor that the pre-trained model had. ``base_window`` is L, ``train_window`` R;
    ``trained_scale`` is the one g that was trained, or None if many were (E2-LLM proper).
    """

    sizes: ModelSizes
    kind: dict[str, bool]
    own_factor: float
    norm_eps: float
    rope_theta: float
    dtype: str
    init_std: float
    tokenizer: str | None
    method: str
    frequencies: str
    base_window: int
    train_window: int
    max_scale: int | None
    keep_first: int | None
    trained_scale: float | None
    draw_per: str
    iteration: int | None
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
    refused = [
        f"{name}={getattr(args, name)!r}"
        for name, known in KNOWN.items()
        if hasattr(args, name) and getattr(args, name) not in known
    ]
    if refused:
        raise UserError(
            f"--load: no known family of models has a place for {', '.join(refused)}; "
            "only RMSNorm, SwiGLU, RoPE models without experts can be exported"
        )
    try:
        return _read(args, common.get("iteration"))
    except AttributeError as error:
        raise UserError(f"--load: the checkpoint's arguments lack {error.name}") from error


def _read(args: argparse.Namespace, iteration: int | None) -> RunArgs:
    positions = _positions(args)
    drawn = positions.position_method == "e2"
    one_scale = positions.fixed_scale if drawn else positions.constant_scale
    own_factor = getattr(args, "rotary_seq_len_interpolation_factor", None) or 1
    if own_factor != 1 and positions.frequency_rule not in ("none", "linear"):
        raise UserError(
            f"--load: a model of linear factor {own_factor} trained by {positions.frequency_rule} "
            "frequencies has no rope_type in transformers"
        )
    return RunArgs(
        sizes=ModelSizes.from_arguments(args),
        kind={name: bool(getattr(args, name, False)) for name in TELL_FAMILIES},
        own_factor=float(own_factor),
        norm_eps=_first(args, "layernorm_epsilon", "norm_epsilon"),
        rope_theta=float(args.rotary_base),
        dtype=str(args.params_dtype).removeprefix("torch."),
        init_std=getattr(args, "init_method_std", 0.02),
        tokenizer=getattr(args, "tokenizer_model", None),
        method=positions.position_method,
        frequencies="linear" if positions.frequency_rule == "none" else positions.frequency_rule,
        base_window=positions.base_window,
        train_window=positions.train_window,
        max_scale=positions.max_scale if drawn and not one_scale else None,
        keep_first=positions.keep_first if drawn else None,
        trained_scale=one_scale,
        draw_per=positions.draw_per,
        iteration=iteration,
        data=getattr(args, "data_blend", []),
    )


def _positions(args: argparse.Namespace) -> E2Config:
    """The run's position configuration; that of plain RoPE for a plain Megatron run."""
    values = {
        item.name: getattr(args, argument_name(item.name), item.default)
        for item in dataclasses.fields(E2Config)
    }
    values["position_method"] = getattr(args, "position_method", "none")
    values["train_window"] = args.seq_length
    values["base_window"] = values["base_window"] or args.max_position_embeddings
    values["validation_windows"] = ()
    return E2Config(**values)


def _first(args: argparse.Namespace, *names: str) -> Any:
    for name in names:
        if getattr(args, name, None) is not None:
            return getattr(args, name)
    return getattr(args, names[0])
