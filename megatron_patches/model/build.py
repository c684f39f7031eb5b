# SPDX-License-Identifier: Apache-2.0
"""Builds the model configuration: Megatron's GPT model, our layer spec, our rotary module.

Megatron deprecates ``GPTModel`` in favour of ``HybridModel``; all that knows which one is built
stands here, and both call ``self.rotary_pos_emb(...)``.
"""

import argparse
from collections.abc import Mapping
from dataclasses import fields
from functools import partial

from megatron.core.models.gpt.gpt_layer_specs import get_gpt_decoder_block_spec
from megatron.core.models.gpt.heterogeneous.heterogeneous_layer_specs import (
    get_gpt_heterogeneous_layer_spec,
)
from megatron.core.transformer.attention import SelfAttention
from megatron.core.transformer.dot_product_attention import DotProductAttention
from megatron.core.transformer.heterogeneous.heterogeneous_config import (
    HeterogeneousTransformerConfig,
)
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.torch_norm import WrappedTorchNorm
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.training.argument_utils import gpt_config_from_args
from megatron.training.models.gpt import GPTModelConfig, default_layer_spec

from e2_common.errors import UserError
from e2_llm.arguments import own_rope
from e2_llm.config import E2Config
from e2_llm.frequencies import PLAIN, OwnRope
from e2_llm.methods import method_for
from megatron_patches.kernels.attention import SDPACoreAttention
from megatron_patches.kernels.install import install
from megatron_patches.kernels.norm import NORMS
from megatron_patches.kernels.rope import takes_joint
from megatron_patches.model.rotary import E2RotaryEmbedding
from megatron_patches.model.temperature import TemperatureSelfAttention


def model_config(args: argparse.Namespace, config: E2Config) -> GPTModelConfig:
    """The configuration from which ``megatron.training.pretrain`` builds the model.

    Puts the chosen kernels into Megatron, for the model and for the optimizer.

    Args:
        args: Megatron's arguments, validated, with the kernels of ``parse_arguments``.
        config: of the positions.

    Raises:
        UserError: there is no such module as --spec names.
    """
    install(args.kernels)
    model = gpt_config_from_args(args)
    if args.spec is not None and model.transformer_layer_spec is None:
        raise UserError(f"--spec {' '.join(args.spec)}: there is no such module to import")
    model.rope_scaling_factor = args.rope_scaling_factor  # which Megatron 0.19.2 forgets
    model.transformer.use_te_activation_func = args.kernels["swiglu"] == "te"
    apart = args.dataloader_inter_document_masking
    if args.kernels["rope"] == "triton" and takes_joint(model.transformer, apart):
        model.transformer.fused_single_qkv_rope = True
    if args.spec is None:
        model.transformer_layer_spec = partial(layer_spec, positions=config, kernels=args.kernels)
    if method_for(config).rule is not PLAIN:  # with it Megatron's own module stays
        model.pre_wrap_hooks.append(partial(install_rotary, config=config, own=own_rope(args)))
    return model


def layer_spec(
    config: GPTModelConfig,
    vp_stage: int | None = None,
    *,
    positions: E2Config,
    kernels: Mapping[str, str],
) -> ModuleSpec | TransformerBlockSubmodules:
    """Megatron's layers, with what is ours put in.

    Args:
        config: of the model.
        vp_stage: virtual pipeline stage, or None.
        positions: how they are made.
        kernels: of every part.
    """
    if config.transformer.transformer_impl == "local":
        spec = local_block_spec(config, vp_stage, kernels)
    else:
        spec = default_layer_spec(config, vp_stage)
    if method_for(positions).rule.has_attention_factor:
        for layer in getattr(spec, "layer_specs", [spec]):
            attention = layer.submodules.self_attention
            if attention.module is SelfAttention:
                attention.module = TemperatureSelfAttention
    return spec


def local_block_spec(
    config: GPTModelConfig, vp_stage: int | None, kernels: Mapping[str, str]
) -> TransformerBlockSubmodules:
    """Megatron's layers without Transformer Engine, with our attention and RMSNorm put in.

    Args:
        config: of the model.
        vp_stage: virtual pipeline stage, or None.
        kernels: of attention and norm.
    """
    spec = megatron_local_block_spec(config, vp_stage)
    ours = {DotProductAttention: partial(SDPACoreAttention, backend=kernels["attention"])}
    if config.transformer.normalization == "RMSNorm":
        ours[WrappedTorchNorm] = NORMS[kernels["norm"]]
        # Which of its norms a block ends with Megatron decides for LayerNorm alone.
        spec.layer_norm = NORMS[kernels["norm"]]
    for layer in spec.layer_specs:
        replace_modules(layer.submodules, ours)
        attention = layer.submodules.self_attention.submodules
        if attention is not None:  # a heterogeneous layer may have none
            replace_modules(attention, ours)
    return spec


def megatron_local_block_spec(
    config: GPTModelConfig, vp_stage: int | None
) -> TransformerBlockSubmodules:
    """What Megatron builds of its local layers, every argument of the model read by its own code.

    Its own choice between them (``default_layer_spec``) forgets ``--qk-l2-norm`` of a model
    without experts, and the stage of one with heterogeneous layers.
    """
    transformer = config.transformer
    if isinstance(transformer, HeterogeneousTransformerConfig):
        return get_gpt_heterogeneous_layer_spec(transformer, use_te=False, vp_stage=vp_stage)
    return get_gpt_decoder_block_spec(
        transformer,
        use_transformer_engine=False,
        normalization=transformer.normalization,
        qk_l2_norm=transformer.qk_l2_norm,
        vp_stage=vp_stage,
    )


def replace_modules(submodules: object, others: Mapping[object, object]) -> None:
    """Replace those fields of a spec's dataclass that are keys of ``others``."""
    for field in fields(submodules):
        module = getattr(submodules, field.name)
        if isinstance(module, type) and module in others:
            setattr(submodules, field.name, others[module])


def install_rotary(
    chunks: list[MegatronModule], config: E2Config, own: OwnRope
) -> list[MegatronModule]:
    """Put our rotary module into every built chunk; every pipeline stage has its own.

    Args:
        chunks: of this pipeline rank, one per virtual stage, not yet wrapped.
        config: of the positions.
        own: the RoPE of the pre-trained model.
    """
    for chunk in chunks:
        chunk.rotary_pos_emb = E2RotaryEmbedding(chunk.rotary_pos_emb, method_for(config), own)
    return chunks
