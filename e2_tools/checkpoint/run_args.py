# SPDX-License-Identifier: Apache-2.0
"""What a Megatron run's arguments say about the model and about E2-LLM, checked."""

import argparse
from dataclasses import dataclass
from typing import Any

from e2_common.errors import UserError
from e2_llm.arguments import config_from_args
from e2_llm.exported import Exported
from e2_llm.frequencies import RULES
from e2_llm.methods import method_for

# Attribute of Megatron's arguments: the values with which the model is of a known family, but for
# KIND. Absent attributes (other versions of Megatron) count as harmless.
PLAIN = {
    "normalization": ("RMSNorm",),
    "swiglu": (True,),
    "add_bias_linear": (False,),
    "position_embedding_type": ("rope",),
    "rotary_percent": (1,),
    "rotary_interleaved": (False,),
    "use_rope_scaling": (False,),
    "no_rope_freq": (None,),
    "num_experts": (None, 0),
    "multi_latent_attention": (False,),
    "qk_l2_norm": (False,),
    "softmax_type": ("vanilla",),
    "window_size": (None,),
    "attention_output_gate": (False,),
    "experimental_attention_variant": (None,),
    "layernorm_zero_centered_gamma": (False,),
    "apply_layernorm_1p": (False,),
    "apply_residual_connection_post_layernorm": (False,),
    "activation_func_clamp_value": (None,),
    "glu_linear_offset": (0,),
    "use_mup": (False,),
    "mtp_num_layers": (None, 0),
    "hybrid_layer_pattern": (None,),
    "heterogeneous_layers_config_path": (None,),
}


# Attributes that tell the families apart.
KIND = ("add_qkv_bias", "qk_layernorm")


@dataclass(frozen=True)
class RunArgs:
    """The part of a run's arguments that an export needs.

    ``vocab`` is None when only the tokenizer knows it. ``kind`` holds the attributes of
    :data:`KIND`. ``exported`` is what config.json will remember; ``trained_scale`` is the one g
    that was trained, or None if many were (E2-LLM proper).
    """

    kind: dict[str, bool]
    layers: int
    hidden: int
    ffn: int
    heads: int
    groups: int
    head_dim: int
    norm_eps: float
    tied: bool
    vocab: int | None
    padded_vocab: int | None
    dtype: str
    init_std: float
    tokenizer: str | None
    exported: Exported
    trained_scale: float | None
    draw_per: str
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
        for name, harmless in PLAIN.items()
        if hasattr(args, name) and getattr(args, name) not in harmless
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
    heads = args.num_attention_heads
    positions = config_from_args(args)
    method = method_for(positions)
    own_factor = getattr(args, "rotary_seq_len_interpolation_factor", None) or 1
    if own_factor != 1 and not method.rule.composes_with_linear:
        raise UserError(
            f"--load: a model of linear factor {own_factor} trained by {method.rule.name} "
            "frequencies has no rope_type in transformers"
        )
    many_scales = method.draws_scale() and method.trained_scale is None
    exported = Exported(
        method=method.name,
        frequencies=method.rule.name if method.rule.name in RULES else "linear",
        rope_theta=float(args.rotary_base),
        own_factor=float(own_factor),
        base_window=positions.base_window,
        train_window=positions.train_window,
        max_scale=positions.max_scale if many_scales else None,
        keep_first=positions.keep_first if "keep_first" in method.reads else None,
        iteration=iteration,
        whole_scales=None if method.whole_scales == method.draws_scale() else method.whole_scales,
    )
    return RunArgs(
        kind={name: bool(getattr(args, name, False)) for name in KIND},
        layers=args.num_layers,
        hidden=args.hidden_size,
        ffn=args.ffn_hidden_size,
        heads=heads,
        groups=args.num_query_groups if getattr(args, "group_query_attention", False) else heads,
        head_dim=getattr(args, "kv_channels", None) or args.hidden_size // heads,
        norm_eps=_first(args, "layernorm_epsilon", "norm_epsilon"),
        tied=not args.untie_embeddings_and_output_weights,
        vocab=getattr(args, "vocab_size", None),
        padded_vocab=getattr(args, "padded_vocab_size", None),
        dtype=str(args.params_dtype).removeprefix("torch."),
        init_std=getattr(args, "init_method_std", 0.02),
        tokenizer=getattr(args, "tokenizer_model", None),
        exported=exported,
        trained_scale=method.trained_scale,
        draw_per=positions.draw_per,
        data=getattr(args, "data_blend", []),
    )


def _first(args: argparse.Namespace, *names: str) -> Any:
    for name in names:
        if getattr(args, name, None) is not None:
            return getattr(args, name)
    return getattr(args, names[0])
