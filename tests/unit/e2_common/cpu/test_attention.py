# SPDX-License-Identifier: Apache-2.0
"""Attention by blocks of queries against torch's, forward and backward."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from e2_common.cpu import attention
from e2_common.cpu.attention import BLOCK, causal_attention


def made(queries, keys, heads, groups, channels, dtype=torch.float64):
    generator = torch.Generator().manual_seed(queries + keys)
    shapes = (2, heads, queries, channels), *[(2, groups, keys, channels)] * 2
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def with_gradients(attend, states):
    states = [one.detach().requires_grad_() for one in states]
    output = attend(*states)
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.dtype)
    return output, *torch.autograd.grad(output, states, weights)


def torchs(query, key, value, scale):
    """Told which keys each query sees, as torch's own causal mask begins with the first key."""
    q, s = query.shape[2], key.shape[2]
    seen = torch.ones(q, s, dtype=torch.bool).tril(s - q)
    return scaled_dot_product_attention(
        query, key, value, attn_mask=seen, scale=scale, enable_gqa=True
    )


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize(
    ("queries", "keys"),
    [
        *((1, 1), (BLOCK, BLOCK), (2 * BLOCK + 5, 2 * BLOCK + 5), (1, 40), (BLOCK + 3, 3 * BLOCK)),
        # Blocks that share a width, the last of which is cut.
        *((5 * BLOCK + 7, 5 * BLOCK + 7), (3 * BLOCK + 1, 7 * BLOCK + 9)),
    ],
)
def test_it_is_torchs_attention(queries, keys, heads, groups, monkeypatch):
    monkeypatch.setattr(attention, "SHAPES", 2)
    states = made(queries, keys, heads, groups, 8)
    ours = with_gradients(lambda *these: causal_attention(*these, 0.3), states)
    theirs = with_gradients(lambda *these: torchs(*these, 0.3), states)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-9, atol=1e-12)


def test_states_need_not_be_contiguous():
    states = made(BLOCK + 9, BLOCK + 9, 4, 2, 8)
    moved = [one.permute(2, 0, 1, 3).contiguous().permute(1, 2, 0, 3) for one in states]
    assert not moved[0].is_contiguous()
    ours = with_gradients(lambda *these: causal_attention(*these, 0.3), moved)
    theirs = with_gradients(lambda *these: causal_attention(*these, 0.3), states)
    assert all(map(torch.equal, ours, theirs))


def test_bf16_is_about_as_exact_as_torchs_kernel():
    exact = made(512, 512, 6, 2, 64)
    half = [one.bfloat16() for one in exact]
    truth = with_gradients(lambda *these: torchs(*these, 0.125), [one.double() for one in half])
    truth = [one.detach() for one in truth]

    def flash(query, key, value):
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return scaled_dot_product_attention(
                query, key, value, is_causal=True, scale=0.125, enable_gqa=True
            )

    def errors(attend):
        found = [one.detach() for one in with_gradients(attend, half)]
        assert all(one.dtype is torch.bfloat16 for one in found)
        pairs = zip(found, truth, strict=True)
        return [float((one.double() - true).norm() / true.norm()) for one, true in pairs]

    ours, theirs = errors(lambda *these: causal_attention(*these, 0.125)), errors(flash)
    assert max(ours) < 6e-3  # bf16 rounds by up to 4e-3
    assert all(mine < 2 * their for mine, their in zip(ours, theirs, strict=True)), (ours, theirs)


def test_large_scores_do_not_overflow():
    states = [300 * one for one in made(300, 300, 2, 1, 8, torch.float32)]
    output = causal_attention(*states, 1.0)
    torch.testing.assert_close(output, torchs(*states, 1.0), rtol=1e-3, atol=1e-3)


def test_the_scale_is_that_of_the_heads_if_none_is_given():
    states = made(9, 9, 2, 1, 8)
    assert torch.equal(causal_attention(*states, None), causal_attention(*states, 8**-0.5))
