# SPDX-License-Identifier: Apache-2.0
"""Our modules against Megatron's own, in a world of two ranks."""

import math

import pytest
import torch
from megatron.core.models.common.embeddings import rope_utils
from megatron.core.models.common.embeddings.rope_utils import apply_rotary_pos_emb
from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.dot_product_attention import DotProductAttention
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.torch_norm import WrappedTorchNorm
from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb as gpt_neox_rotation

from e2_common.errors import UserError
from e2_llm.config import E2Config
from e2_llm.frequencies import OwnRope
from e2_llm.methods import method_for
from e2_llm.sampler import Draw
from megatron_patches.kernels.attention import SDPACoreAttention
from megatron_patches.kernels.norm import RMSNorm
from megatron_patches.kernels.rope import rotate
from megatron_patches.model.rotary import E2RotaryEmbedding
from megatron_patches.model.temperature import TemperatureSelfAttention


def config(tp=1, **options):
    defaults = {
        "num_layers": 1,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_query_groups": 2,
        "normalization": "RMSNorm",
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "tensor_model_parallel_size": tp,
        "masked_softmax_fusion": False,
    }
    return TransformerConfig(**(defaults | options))


def rotary(**options):
    return RotaryEmbedding(kv_channels=16, rotary_percent=1.0, **options)


def e2_rotary(original=None, own=10000.0, **options):
    method = method_for(E2Config(base_window=128, train_window=64, **options))
    return E2RotaryEmbedding(original or rotary(), method, own)


@pytest.mark.parametrize("interleaved", [False, True])
def test_scale_one_is_megatrons_rope(model_parallel, interleaved):
    original = rotary(rotary_interleaved=interleaved)
    ours = e2_rotary(original)
    assert torch.equal(ours(100), original(100))
    for mine, theirs in zip(ours.get_cos_sin(50), original.get_cos_sin(50), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("factor", [2.0, 3.5, 16.0])
def test_a_fixed_scale_is_megatrons_interpolation(model_parallel, factor):
    ours = e2_rotary()
    ours.set_draws([Draw(factor, 0)])
    theirs = rotary(seq_len_interpolation_factor=factor)
    torch.testing.assert_close(ours(100), theirs(100), rtol=1e-6, atol=1e-6)


def test_a_new_draw_is_seen_at_once(model_parallel):
    ours = e2_rotary()
    before = ours(64)
    ours.set_draws([Draw(4.0, 30)])
    after = ours(64)
    torch.testing.assert_close(after[:4], before[:4] / 4)
    frequencies = before[1]
    torch.testing.assert_close(after[10], frequencies * (10 + 30) / 4)


@pytest.mark.parametrize("keep", [0, 4, 30])
def test_kept_tokens_under_context_parallelism_are_those_of_the_whole_window(model_parallel, keep):
    """Rank r of two has the quarters r and 3 - r of the window: only rank 0 begins with token 0."""
    ours = e2_rotary(keep_first=keep)
    ours.set_draws([Draw(4.0, 30)])
    whole = ours(64)
    world = torch.distributed.group.WORLD
    rank = world.rank()
    part = ours(64, cp_group=world)
    quarters = whole.split(16)
    assert torch.equal(part, torch.cat([quarters[rank], quarters[3 - rank]]))
    first, slowest = 16 * rank, 0  # the token that this rank's part begins with
    frequency = method_for(E2Config(base_window=1, train_window=1)).frequencies(
        Draw(1.0, 0), 16, 10000.0
    )
    position = first + (0 if first < keep else 30)
    torch.testing.assert_close(part[0, 0, 0, slowest], frequency.inverse[slowest] * position / 4)


def test_a_linear_factor_of_the_model_multiplies_the_scale(model_parallel):
    ours = e2_rotary(rotary(seq_len_interpolation_factor=2.0), OwnRope(10000.0, factor=2.0))
    ours.set_draws([Draw(3.0, 0)])
    theirs = rotary(seq_len_interpolation_factor=6.0)
    torch.testing.assert_close(ours(100), theirs(100), rtol=1e-6, atol=1e-6)


def test_a_uniform_offset_is_refused(model_parallel):
    with pytest.raises(ValueError, match="cancels"):
        e2_rotary()(10, offset=3)


@pytest.mark.parametrize(
    "options",
    [
        {"seq_len_interpolation_factor": 2.0},
        {"rope_scaling": True},
        {"rotary_base": 20000},
    ],
    ids=str,
)
def test_a_module_that_scales_otherwise_is_not_replaced(model_parallel, options):
    with pytest.raises(UserError, match="drop that argument") as error:
        e2_rotary(rotary(**options))
    assert "\n" not in str(error.value)


def test_draws_per_sample_rotate_each_sample_its_own_way(model_parallel):
    ours = e2_rotary()
    draws = [Draw(2.0, 5), Draw(7.0, 100)]
    ours.set_draws(draws)
    together = ours(32)  # [s, b, 1, d]
    assert together.shape == (32, 2, 1, 16)
    states = torch.randn(32, 2, 4, 16)
    rotated = apply_rotary_pos_emb(states, together, config())
    for sample, draw in enumerate(draws):
        ours.set_draws([draw])
        alone = apply_rotary_pos_emb(states[:, sample : sample + 1], ours(32), config())
        assert torch.equal(rotated[:, sample : sample + 1], alone)


def scores(query, key):
    """Of queries [s, b, n, d] and keys [s, b, k, d]."""
    key = key.repeat_interleave(query.size(2) // key.size(2), 2)
    return torch.einsum("sbnd,tbnd->bnst", query, key)


class Seen(torch.nn.Module):
    """In the place of the core attention: keeps the queries and keys that it is given."""

    def __init__(self, **options):
        super().__init__()

    def forward(self, query, key, value, *masks, **options):
        self.query, self.key = query, key
        return value.repeat_interleave(query.size(2) // value.size(2), 2).flatten(2)


@pytest.mark.parametrize("percent", [1.0, 0.5, 0.25])
@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("fused", [False, True])
def test_temperature_is_transformers_and_of_what_is_rotated(
    model_parallel, percent, layer, fused, monkeypatch
):
    """YaRN multiplies cosines and sines; the second layer here has no RoPE."""
    if fused:
        pytest.importorskip("triton")
        monkeypatch.setattr(rope_utils, "fused_apply_rotary_pos_emb", rotate)
    original = RotaryEmbedding(kv_channels=16, rotary_percent=percent)
    rope = e2_rotary(original, frequencies="yarn")
    rope.set_draws([Draw(20.0, 40)])
    setting = config(model_parallel, num_layers=2, no_rope_freq=[0, 1])
    setting.apply_rope_fusion = fused
    submodules = get_gpt_layer_local_spec(normalization="RMSNorm").submodules
    submodules = submodules.self_attention.submodules
    submodules.core_attention = Seen
    attention = TemperatureSelfAttention(setting, submodules, layer, AttnMaskType.causal)
    states = torch.randn(24, 2, 64)
    with torch.no_grad():
        query, key, _ = attention.get_query_key_value_tensors(states)
        attention(states, None, rotary_pos_emb=rope(24))
    if layer == 1:
        angles = rope.get_freqs_non_repeated(24)[:, 0]  # [s, d / 2]
        m = 0.1 * math.log(20.0) + 1
        angles = torch.cat((angles, angles), -1)[None]
        cos, sin = angles.cos() * m, angles.sin() * m
        query, key = (x.permute(1, 2, 0, 3) for x in (query, key))  # [b, n, s, d]
        query, key = gpt_neox_rotation(query, key, cos, sin)
        query, key = (x.permute(2, 0, 1, 3) for x in (query, key))
    seen = attention.core_attention
    ours, theirs = scores(seen.query, seen.key), scores(query, key)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("backend", ["flash", "math", "blocks"])
def test_attention_equals_megatrons(model_parallel, groups, masked, backend):
    if masked and backend == "blocks":
        return  # it has no masks, see the next test
    groups = max(groups, model_parallel)
    setting = config(model_parallel, num_query_groups=groups)
    arguments = {
        "config": setting,
        "layer_number": 1,
        "attn_mask_type": AttnMaskType.causal,
        "attention_type": "self",
    }
    ours = SDPACoreAttention(**arguments, backend=backend)
    theirs = DotProductAttention(**arguments)
    heads, kv_heads = 4 // model_parallel, groups // model_parallel
    query = torch.randn(24, 2, heads, 16, requires_grad=True)
    key, value = (torch.randn(24, 2, kv_heads, 16, requires_grad=True) for _ in range(2))
    mask = torch.triu(torch.ones(24, 24, dtype=torch.bool), 1)[None, None]
    if masked:  # documents of 12 tokens
        block = torch.arange(24) // 12
        mask = mask | (block[:, None] != block[None, :])
    results = []
    for attention in (ours, theirs):
        # Megatron's own needs the mask even when it is causal.
        given = mask if masked or attention is theirs else None
        output = attention(query, key, value, given)
        gradients = torch.autograd.grad(output.square().sum(), (query, key, value))
        results.append((output, *gradients))
    for mine, reference in zip(*results, strict=True):
        torch.testing.assert_close(mine, reference, atol=2e-5, rtol=1e-4)


def test_attention_by_blocks_is_causal_and_has_no_dropout(model_parallel):
    mask = torch.zeros(1, 1, 24, 24, dtype=torch.bool)
    states = [torch.randn(24, 2, 4, 16) for _ in range(3)]
    for dropout, given in ((0.0, mask), (0.1, None)):
        attention = SDPACoreAttention(
            config(attention_dropout=dropout), 1, AttnMaskType.causal, "self", backend="blocks"
        )
        with pytest.raises(ValueError, match="causal and has no dropout"):
            attention(*states, given)


@pytest.mark.parametrize(
    "options", [{"window_size": (8, 0)}, {"softmax_type": "learnable"}], ids=str
)
def test_attention_refuses_what_it_does_not_do(model_parallel, options):
    with pytest.raises(UserError, match="Transformer Engine"):
        SDPACoreAttention(config(**options), 1, AttnMaskType.causal, "self", backend="math")


def test_norm_equals_megatrons_and_allows_sequence_parallel(model_parallel):
    ours = RMSNorm(config(), 64, eps=1e-5)
    theirs = WrappedTorchNorm(config(), 64, eps=1e-5)
    ours.weight.data = torch.rand(64)
    theirs.load_state_dict(ours.state_dict())
    states = torch.randn(8, 2, 64)
    assert torch.equal(ours(states), theirs(states))
    assert ours.weight.sequence_parallel is False
    if model_parallel == 2:
        assert RMSNorm(config(2, sequence_parallel=True), 64).weight.sequence_parallel is True
