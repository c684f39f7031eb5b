# SPDX-License-Identifier: Apache-2.0
"""Which of Megatron's arguments the known families of models have a place for.

An export asks it of a checkpoint's arguments, a run of its own before it starts.
"""

import argparse

from e2_common.errors import UserError
from e2_llm.config import E2Config
from e2_llm.methods import method_for

# Name -> the values with which a model can be of a known family. Other versions of Megatron may
# lack some of the names.
KNOWN: dict[str, tuple[object, ...]] = {
    "swiglu": (True,),
    "normalization": ("RMSNorm",),
    "add_bias_linear": (False,),
    "position_embedding_type": ("rope",),
    "rotary_percent": (1,),
    "rotary_interleaved": (False,),
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
# Arguments that tell the families apart, and those of them that each kind of family has.
NO_ROPE = "no_rope_freq"
TELL_FAMILIES = ("add_qkv_bias", "qk_layernorm", NO_ROPE)
KINDS: tuple[frozenset[str], ...] = (
    frozenset(),
    frozenset({"add_qkv_bias"}),
    frozenset({"qk_layernorm"}),
    frozenset({NO_ROPE}),
)
# What a model is run at, and does not change its weights.
WINDOWS = ("max_position_embeddings", "seq_length")


def kind_of(args: argparse.Namespace) -> frozenset[str]:
    """What tells the families apart, of a run or of a checkpoint: those that it has."""
    return frozenset(name for name in TELL_FAMILIES if getattr(args, name, None))


def without_rope(args: argparse.Namespace) -> list[int] | None:
    """Which layers rotate nothing, a 1 for each; None if all rotate.

    Megatron's ``--no-rope-freq`` is such a list, or a number n for the last one of every n layers.
    """
    said = getattr(args, NO_ROPE, None)
    if isinstance(said, int) and said:
        return [int(layer % said == 0) for layer in range(1, args.num_layers + 1)]
    return list(said) if said else None


def check_family(args: argparse.Namespace, positions: E2Config) -> None:
    """Whether a model of these arguments can be exported.

    Args:
        args: Megatron's, of this run or stored in a checkpoint.
        positions: of the same.

    Raises:
        UserError: it is of no known family; every reason is named.
    """
    reasons = [
        f"{name}={getattr(args, name)!r}"
        for name, known in KNOWN.items()
        if hasattr(args, name) and getattr(args, name) not in known
    ]
    if reasons:
        raise UserError(
            f"no known family of models has a place for {', '.join(reasons)}; "
            "only RMSNorm, SwiGLU, RoPE models without experts can be exported"
        )
    kind = kind_of(args)
    if kind not in KINDS:
        raise UserError(f"no known family of models has {', '.join(sorted(kind))} together")
    rule = method_for(positions).rule
    if not rule.exportable:
        raise UserError(
            f"it is trained with the frequencies {rule.name}, which no rope_type of transformers "
            "computes"
        )
