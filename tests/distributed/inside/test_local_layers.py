# SPDX-License-Identifier: Apache-2.0
"""Models of our local layers against those of Megatron's own, in a world of two ranks."""

import json
import os
from unittest import mock

import pytest
import torch
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.models.gpt.heterogeneous.heterogeneous_layer_specs import (
    get_gpt_heterogeneous_layer_spec,
)
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.heterogeneous.heterogeneous_config import (
    HeterogeneousTransformerConfig,
)
from megatron.core.transformer.torch_norm import L2Norm
from megatron.training.models.gpt import GPTModelConfig, default_layer_spec

from e2_llm.config import E2Config
from megatron_patches.kernels.attention import SDPACoreAttention
from megatron_patches.kernels.norm import RMSNorm
from megatron_patches.model.build import layer_spec
from megatron_patches.model.temperature import TemperatureSelfAttention

KERNELS = {"attention": "math", "norm": "plain"}
EXPERTS = {"num_moe_experts": 4, "moe_ffn_hidden_size": 80, "moe_router_topk": 2}
EXPERTS |= {"moe_token_dispatcher_type": "alltoall"}
LAYER = {"attention": {"no_op": False, "replace_with_linear": False, "n_heads_in_group": 2}}
LAYER |= {"ffn": {"no_op": False, "replace_with_linear": False, "ffn_mult": 2.5}}
BLOCKS = {
    "block_configs": [
        LAYER,
        LAYER
        | {"attention": {"no_op": True, "replace_with_linear": False, "n_heads_in_group": None}},
        LAYER | {"ffn": {"no_op": True, "replace_with_linear": False, "ffn_mult": None}},
        LAYER
        | {"attention": {"no_op": False, "replace_with_linear": True, "n_heads_in_group": None}},
    ]
}
VARIANTS = {
    "dense": {},
    "qk layernorm": {"qk_layernorm": True},
    "qk L2 norm": {"qk_l2_norm": True},
    "LayerNorm": {"normalization": "LayerNorm", "add_bias_linear": True},
    "experts": EXPERTS,
    "experts in every second layer": EXPERTS | {"moe_layer_freq": 2},
    "experts in the last two layers": EXPERTS | {"moe_layer_freq": [0, 0, 1, 1]},
    "experts and L2 norm": EXPERTS | {"moe_layer_freq": 2, "qk_l2_norm": True},
    "layers of several kinds": {"heterogeneous_layers_config_encoded_json": json.dumps(BLOCKS)},
}


def model_config(tp, **options):
    defaults = {"num_layers": 4, "hidden_size": 64, "ffn_hidden_size": 160}
    defaults |= {"num_attention_heads": 4, "num_query_groups": 2, "normalization": "RMSNorm"}
    defaults |= {"add_bias_linear": False, "gated_linear_unit": True}
    defaults |= {"activation_func": torch.nn.functional.silu, "bias_activation_fusion": False}
    defaults |= {"attention_dropout": 0.0, "hidden_dropout": 0.0, "masked_softmax_fusion": False}
    defaults |= {"tensor_model_parallel_size": tp, "transformer_impl": "local"}
    different = "heterogeneous_layers_config_encoded_json" in options
    kind = HeterogeneousTransformerConfig if different else TransformerConfig
    return GPTModelConfig(transformer=kind(**(defaults | options)), vocab_size=64)


def megatrons_spec(config):
    """Megatron's own; of two arguments that its choice drops, from the builder it chooses."""
    transformer = config.transformer
    if isinstance(transformer, HeterogeneousTransformerConfig):
        return get_gpt_heterogeneous_layer_spec(transformer, use_te=False)
    if transformer.qk_l2_norm and transformer.num_moe_experts is None:
        return get_gpt_layer_local_spec(normalization="RMSNorm", qk_l2_norm=True)
    return default_layer_spec(config, None)


def build(config, spec):
    torch.manual_seed(3)
    with mock.patch.dict(os.environ):  # it tells Transformer Engine something
        return GPTModel(
            config=config.transformer,
            transformer_layer_spec=spec,
            vocab_size=64,
            max_sequence_length=32,
            position_embedding_type="rope",
            share_embeddings_and_output_weights=False,
        ).eval()


def ours(config, **positions):
    method = E2Config(base_window=32, train_window=32, **positions)
    return layer_spec(config, positions=method, kernels=KERNELS)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_model_is_megatrons(model_parallel, name):
    """The same tensors by name and shape, and the same logits of the same weights."""
    config = model_config(model_parallel, **VARIANTS[name])
    theirs = build(config, megatrons_spec(config))
    mine = build(config, ours(config))
    shapes = [{key: tuple(value.shape) for key, value in model.named_parameters()}
              for model in (mine, theirs)]  # fmt: skip
    assert shapes[0] == shapes[1]
    mine.load_state_dict(theirs.state_dict())
    tokens = torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(1))
    positions = torch.arange(16).expand_as(tokens)
    mask = torch.triu(torch.ones(16, 16, dtype=torch.bool), 1)[None, None]
    with torch.no_grad():
        expected = theirs(tokens, positions, mask)
        torch.testing.assert_close(mine(tokens, positions, None), expected, atol=2e-5, rtol=1e-4)


def test_ours_are_put_in_and_nothing_else(model_parallel):
    config = model_config(model_parallel, qk_l2_norm=True)
    layer = build(config, ours(config)).decoder.layers[0]
    assert isinstance(layer.self_attention.core_attention, SDPACoreAttention)
    assert isinstance(layer.input_layernorm, RMSNorm)
    assert isinstance(layer.self_attention.q_layernorm, L2Norm)


def test_yarns_temperature_is_put_into_attention_alone(model_parallel):
    config = model_config(model_parallel, **VARIANTS["layers of several kinds"])
    spec = ours(config, position_method="yarn", factor=4.0)
    kinds = [layer.submodules.self_attention.module for layer in spec.layer_specs]
    assert [kind is TemperatureSelfAttention for kind in kinds] == [True, False, True, False]
