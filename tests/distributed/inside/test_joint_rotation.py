# SPDX-License-Identifier: Apache-2.0
"""Rotation out of the joint projection against Megatron's split and rotation, forward and backward.

Triton runs under its interpreter.
"""

import pytest
import torch
from megatron.core.models.common.embeddings.rope_utils import apply_rotary_pos_emb
from megatron.core.transformer import TransformerConfig
from torch.utils._python_dispatch import TorchDispatchMode

from e2_llm.config import E2Config
from e2_llm.sampler import Draw
from megatron_patches.kernels.install import install
from megatron_patches.kernels.registry import PLAIN
from megatron_patches.kernels.rope import rotate_joint, takes_joint
from tests.distributed.inside.models import built, megatron_args
from tests.distributed.inside.test_kernels import EACH, ONE, angles, assert_equal, config

HEAD = 8


class Called(TorchDispatchMode):
    """Names of the operators that run in its body."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def by_megatron(joint, query_freqs, key_freqs, sizes):
    """As its attention does it: split, then rotate one after the other."""
    query, key, value = joint.split(sizes, dim=-1)
    query = query.reshape(*query.shape[:2], -1, HEAD)
    setting = config()
    return (
        apply_rotary_pos_emb(query, query_freqs, setting),
        apply_rotary_pos_emb(key, key_freqs, setting),
        value,
    )


def gradient_of(function, joint, *others):
    """What it returns, the gradient of the joint projection, and the operators of the way back."""
    outputs = function(joint, *others)
    generator = torch.Generator().manual_seed(3)
    # As attention returns them: heads before tokens.
    weights = [
        torch.randn(one.permute(1, 2, 0, 3).shape, generator=generator).permute(2, 0, 1, 3)
        for one in outputs
    ]
    called = Called()
    with called:
        (gradient,) = torch.autograd.grad(outputs, joint, weights)
    return (*outputs, gradient), called.names


@pytest.mark.parametrize("of_group", [1, 2, 3])
@pytest.mark.parametrize("percent", [1.0, 0.5])
@pytest.mark.parametrize("draws", [ONE, EACH], ids=["one", "each"])
def test_the_joint_rotation_is_megatrons(model_parallel, draws, percent, of_group):
    query_freqs, key_freqs = angles(draws, percent), angles([Draw(3.0, 7)], percent)
    sizes = [of_group * HEAD, HEAD, HEAD]
    joint = torch.randn(6, 2, 2, sum(sizes), requires_grad=True)
    expected, before = gradient_of(by_megatron, joint, query_freqs, key_freqs, sizes)
    found, now = gradient_of(rotate_joint, joint, query_freqs, key_freqs, sizes)
    assert_equal(found, expected)
    assert "cat" in before
    assert "cat" not in now
    assert found[2].data_ptr() == joint.split(sizes, dim=-1)[2].data_ptr()  # no copy of values


def test_the_factor_of_the_queries_is_rotated_with_them(model_parallel):
    freqs = angles(EACH)
    factor = torch.rand(1, 2, 1, 1).expand(6, 2, 1, 1)
    joint = torch.randn(6, 2, 2, 4 * HEAD, requires_grad=True)

    def scaled(joint, freqs, sizes):
        query, *others = by_megatron(joint, freqs, freqs, sizes)
        return query * factor, *others

    def ours(joint, freqs, sizes):
        return rotate_joint(joint, torch.cat((freqs, factor), -1), freqs, sizes)

    sizes = [2 * HEAD, HEAD, HEAD]
    expected, _ = gradient_of(scaled, joint, freqs, sizes)
    assert_equal(gradient_of(ours, joint, freqs, sizes)[0], expected)


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({}, True),
        ({"num_query_groups": 2}, True),
        ({"num_query_groups": 2, "tensor_model_parallel_size": 4}, False),
        ({"qk_layernorm": True}, False),
        ({"qk_l2_norm": True}, False),
        ({"attention_output_gate": True}, False),
        ({"no_rope_freq": [1]}, False),
        ({"rotary_interleaved": True}, False),
        ({"test_mode": True}, False),
    ],
)
def test_layers_that_need_the_parts_do_not_take_it(options, taken):
    setting = TransformerConfig(
        **{"num_layers": 1, "hidden_size": 16, "num_attention_heads": 4} | options
    )
    assert takes_joint(setting, documents=False) is taken
    assert not takes_joint(setting, documents=True)


E2 = {"base_window": 64, "train_window": 64, "max_scale": 8.0}


@pytest.mark.parametrize("frequencies", ["linear", "yarn"])
def test_a_model_trains_as_with_megatrons_rotation(model_parallel, monkeypatch, frequencies):
    positions = E2Config(**E2, frequencies=frequencies)
    tokens = torch.randint(64, (2, 12), generator=torch.Generator().manual_seed(5))
    places = torch.arange(12).expand_as(tokens)
    found, weights = {}, None
    for kernel in ("plain", "triton"):
        args = megatron_args(monkeypatch, model_parallel, "--position-method", "e2")
        args.kernels["rope"], args.apply_rope_fusion = kernel, kernel == "triton"
        model = built(args, positions)
        weights = weights or model.state_dict()
        model.load_state_dict(weights)
        assert model.config.fused_single_qkv_rope is (kernel == "triton")
        model.rotary_pos_emb.set_draws([Draw(2.0, 5), Draw(7.0, 100)])
        called = Called()
        losses = model(tokens, places, None, labels=tokens)
        with called:
            losses.sum().backward()
        gradients = {name: one.grad for name, one in model.named_parameters()}
        found[kernel] = (losses.detach(), gradients, called.names.count("cat"))
    install(PLAIN)
    (theirs, their_grads, cats), (ours, our_grads, fewer) = found["plain"], found["triton"]
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=2e-6)
    assert our_grads.keys() == their_grads.keys()
    assert all(gradient is not None for gradient in our_grads.values())
    for name, gradient in our_grads.items():
        torch.testing.assert_close(gradient, their_grads[name], atol=2e-5, rtol=1e-4)
    assert fewer <= cats - model.config.num_layers
