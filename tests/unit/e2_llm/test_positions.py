# SPDX-License-Identifier: Apache-2.0
"""Positions against the paper's equations, and what RoPE makes of them, against transformers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from e2_llm.config import E2Config
from e2_llm.methods import method_for
from e2_llm.positions import max_offset, rotary_positions

windows = st.sampled_from([64, 128, 4096])


@settings(max_examples=200, deadline=None)
@given(
    base=windows,
    shorter=st.integers(1, 4),
    max_scale=st.integers(1, 64),
    seed=st.integers(0, 2**63 - 1),
    index=st.integers(0, 2**40),
)
def test_every_draw_stays_inside_the_pretrained_window(base, shorter, max_scale, seed, index):
    length = base // shorter
    config = E2Config(base_window=base, train_window=length, max_scale=max_scale)
    draw = method_for(config).draw(seed, index)
    g, t = draw[:2]
    positions = method_for(config).positions(draw, length)
    m = torch.arange(length, dtype=torch.float64)
    torch.testing.assert_close(positions[:4].double(), m[:4] / g, rtol=1e-6, atol=0)
    torch.testing.assert_close(positions[4:].double(), (m[4:] + t) / g, rtol=1e-6, atol=0)
    assert positions.max() < base
    assert 0 <= t <= g * base - length
    assert g in range(1, max_scale + 1)


@settings(max_examples=50, deadline=None)
@given(
    scale=st.floats(1, 64),
    base=windows,
    length=st.integers(1, 4096),
    keep=st.integers(0, 8),
)
def test_largest_offset_reaches_the_end_of_the_window_and_no_further(scale, base, length, keep):
    t = max_offset(scale, base, length)
    if length > scale * base:
        assert t == 0
        return
    last = rotary_positions(length, scale, t, keep)[-1].item()
    if length > keep:
        assert base - 2 / scale - 1e-3 * base < last < base


def scores(positions, queries, keys):
    """RoPE attention scores [s, s] by transformers' own rotation, fp64."""
    dim = queries.shape[-1]
    inv_freq = 1 / 10000 ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = positions.double()[:, None] * inv_freq
    angles = torch.cat((angles, angles), dim=-1)[None]
    queries, keys = apply_rotary_pos_emb(
        queries[None, None], keys[None, None], angles.cos(), angles.sin()
    )
    return (queries @ keys.mT)[0, 0]


@settings(max_examples=25, deadline=None)
@given(scale=st.integers(1, 20), offset=st.integers(200, 70000), seed=st.integers(0, 10**6))
def test_uniform_offset_cancels_and_the_papers_offset_does_not(scale, offset, seed):
    generator = torch.Generator().manual_seed(seed)
    queries, keys = torch.randn(2, 24, 32, generator=generator, dtype=torch.float64)
    plain = scores(rotary_positions(24, scale), queries, keys)
    uniform = scores(rotary_positions(24, scale, offset, keep_first=0), queries, keys)
    # fp32 positions up to 70000 carry a relative error of 2^-24.
    torch.testing.assert_close(uniform, plain, atol=0.2, rtol=0)
    kept = scores(rotary_positions(24, scale, offset, keep_first=4), queries, keys)
    # Among the kept, and among the later ones, nothing moves (Eq 8) ...
    torch.testing.assert_close(kept[:4, :4], plain[:4, :4], atol=1e-9, rtol=0)
    torch.testing.assert_close(kept[4:, 4:], plain[4:, 4:], atol=0.2, rtol=0)
    # ... but the later ones see the kept ones from elsewhere.
    assert (kept[4:, :4] - plain[4:, :4]).abs().max() > 0.5


@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0, 7.5, 20.0])
def test_angles_equal_transformers_linear_scaling(scale):
    config = LlamaConfig(
        hidden_size=64,
        num_attention_heads=4,
        rope_parameters={"rope_type": "linear", "factor": scale, "rope_theta": 10000.0},
    )
    rotary = LlamaRotaryEmbedding(config)
    cos, sin = rotary(torch.zeros(1), torch.arange(4096)[None])
    inv_freq = 1 / 10000 ** (torch.arange(0, 16, 2) / 16)
    angles = rotary_positions(4096, scale)[:, None] * inv_freq
    # Angles reach 4096: fp32 leaves 2.4e-4 of them.
    torch.testing.assert_close(angles.cos(), cos[0, :, :8], atol=1e-3, rtol=0)
    torch.testing.assert_close(angles.sin(), sin[0, :, :8], atol=1e-3, rtol=0)


def test_logits_equal_transformers_with_position_ids():
    torch.manual_seed(0)
    kwargs = {
        "vocab_size": 99,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
    }
    model = LlamaForCausalLM(LlamaConfig(**kwargs)).eval()
    rope = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    scaled = LlamaForCausalLM(LlamaConfig(**kwargs, rope_parameters=rope)).eval()
    scaled.load_state_dict(model.state_dict())
    tokens = torch.randint(0, 99, (1, 64))
    with torch.no_grad():
        ours = model(tokens, position_ids=rotary_positions(64, 4.0)[None]).logits
        theirs = scaled(tokens).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
