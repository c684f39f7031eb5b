# SPDX-License-Identifier: Apache-2.0
"""Fused kernels against Megatron's own functions, element by element, forward and backward.

Triton's run under its interpreter.
"""

import pytest
import torch
from megatron.core.fusions import fused_bias_swiglu
from megatron.core.models.common.embeddings.rope_utils import apply_rotary_pos_emb
from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
from megatron.core.models.common.language_module import language_module
from megatron.core.parallel_state import get_tensor_model_parallel_group
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    RowParallelLinear,
    vocab_parallel_cross_entropy,
)
from megatron.core.transformer import TransformerConfig

from e2_llm.config import E2Config
from e2_llm.methods import method_for
from e2_llm.sampler import Draw
from megatron_patches.kernels.install import install
from megatron_patches.kernels.norm import NORMS
from megatron_patches.kernels.registry import PLAIN
from megatron_patches.kernels.rope import rotate
from megatron_patches.model.rotary import E2RotaryEmbedding

pytest.importorskip("liger_kernel")

ONE, EACH = [Draw(5.0, 40)], [Draw(2.0, 5), Draw(7.0, 100)]


def config(**options):
    defaults = {"num_layers": 1, "hidden_size": 16, "num_attention_heads": 4}
    return TransformerConfig(**(defaults | {"normalization": "RMSNorm"} | options))


@pytest.fixture
def kernels():
    """Installs a choice; puts back the plain one."""
    yield lambda **names: install(PLAIN | names)
    install(PLAIN)


def angles(draws, percent=1.0, interleaved=False):
    original = RotaryEmbedding(
        kv_channels=8, rotary_percent=percent, rotary_interleaved=interleaved
    )
    rotary = E2RotaryEmbedding(
        original, method_for(E2Config(base_window=128, train_window=64)), 1e4
    )
    rotary.set_draws(draws)
    return rotary(6)


def with_gradients(function, *inputs):
    output = function(*inputs)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(3))
    return output, *torch.autograd.grad((output * weights).sum(), inputs)


def assert_equal(ours, theirs, **tolerance):
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, **({"atol": 1e-6, "rtol": 1e-6} | tolerance))


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("percent", [1.0, 0.5])
@pytest.mark.parametrize("draws", [ONE, EACH], ids=["one", "each"])
def test_rope_equals_megatrons(model_parallel, kernels, draws, percent, interleaved):
    kernels(rope="triton")
    freqs = angles(draws, percent, interleaved)
    joint = torch.randn(6, 2, 3, 24, requires_grad=True)
    setting = config(rotary_interleaved=interleaved)

    def rotated(states):
        return apply_rotary_pos_emb(states[..., 8:16], freqs, setting)  # a slice, as queries are

    theirs = with_gradients(rotated, joint)
    # As TransformerConfig sets it; its own check asks for Transformer Engine with interleaving.
    setting.apply_rope_fusion = True
    assert_equal(with_gradients(rotated, joint), theirs)


def test_rope_sees_new_angles_of_the_same_shape(model_parallel):
    states = torch.randn(6, 2, 3, 8)
    first, second = angles([Draw(1.0, 0)]), angles([Draw(4.0, 30)])
    setting = config()
    for freqs in (first, second, first, first.add_(0.5)):  # the last one changed in place
        expected = apply_rotary_pos_emb(states, freqs, setting)
        torch.testing.assert_close(rotate(states, freqs), expected, atol=1e-6, rtol=1e-6)


def test_rope_refuses_angles_of_other_samples(model_parallel):
    with pytest.raises(ValueError, match="do not fit"):
        rotate(torch.randn(6, 3, 3, 8), angles(EACH))


def test_rope_in_bf16_computes_in_fp32(model_parallel):
    states, freqs = torch.randn(6, 2, 3, 8), angles(EACH)
    exact = apply_rotary_pos_emb(states.bfloat16().float(), freqs, config())
    # One rounding of 8 significant bits; the interpreter cuts off where a compiler rounds.
    rotated = rotate(states.bfloat16(), freqs)
    assert rotated.dtype is torch.bfloat16
    torch.testing.assert_close(rotated.float(), exact, rtol=2**-7, atol=1e-7)


def test_liger_norm_equals_torchs(model_parallel):
    ours, theirs = (NORMS[name](config(), 16, eps=1e-5) for name in ("liger", "plain"))
    ours.weight.data = torch.rand(16)
    theirs.load_state_dict(ours.state_dict())
    states = torch.randn(5, 2, 16, requires_grad=True)
    assert_equal(
        with_gradients(lambda states, _: ours(states), states, ours.weight),
        with_gradients(lambda states, _: theirs(states), states, theirs.weight),
        atol=5e-6,
    )
    sequence_parallel = config(tensor_model_parallel_size=2, sequence_parallel=True)
    assert NORMS["liger"](sequence_parallel, 16).weight.sequence_parallel is True


def test_liger_swiglu_equals_megatrons(model_parallel, kernels):
    states = torch.randn(5, 2, 12, requires_grad=True)

    def swiglu(states):
        return fused_bias_swiglu.bias_swiglu_impl(states, None)

    theirs = with_gradients(swiglu, states)
    kernels(swiglu="liger")
    assert_equal(with_gradients(swiglu, states), theirs)
    with pytest.raises(ValueError, match="--kernel-swiglu liger keeps its input"):
        fused_bias_swiglu.bias_swiglu_impl(states, None, True)


def test_liger_cross_entropy_equals_megatrons(model_parallel, kernels):
    generator = torch.Generator().manual_seed(2)
    whole = 3 * torch.randn(5, 2, 40, generator=generator)
    labels = torch.randint(40, (5, 2), generator=generator)
    rank = torch.distributed.get_rank() % model_parallel
    part = whole.chunk(model_parallel, dim=-1)[rank].clone().requires_grad_()
    group = get_tensor_model_parallel_group()
    # Megatron's writes over its input.
    theirs = with_gradients(
        lambda part: vocab_parallel_cross_entropy(part.clone(), labels, tp_group=group), part
    )
    kernels(cross_entropy="liger")
    ours = language_module.fused_vocab_parallel_cross_entropy
    assert_equal(with_gradients(lambda part: ours(part, labels, group), part), theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layer", [ColumnParallelLinear, RowParallelLinear])
def test_addmm_accumulates_what_autograd_does(model_parallel, kernels, layer, dtype):
    kernels(weight_gradients="addmm")
    sums = {}
    for fused in (False, True):
        torch.manual_seed(5)
        options = {"input_is_parallel": True} if layer is RowParallelLinear else {}
        linear = layer(
            16,
            24,
            config=config(
                tensor_model_parallel_size=model_parallel,
                gradient_accumulation_fusion=fused,
                params_dtype=dtype,
                use_cpu_initialization=True,
            ),
            init_method=torch.nn.init.normal_,
            bias=False,
            skip_bias_add=False,
            **options,
        )
        weight = linear.weight
        weight.main_grad = torch.zeros(weight.shape, dtype=torch.float32)
        width = weight.size(1)
        for _ in range(3):  # micro-batches
            states = torch.randn(7, 2, width).to(dtype).requires_grad_()
            linear(states)[0].float().square().sum().backward()
            if not fused:
                weight.main_grad += weight.grad.float()
            weight.grad = None
        sums[fused] = weight.main_grad
    tolerance = 1e-5 if dtype is torch.float32 else 2e-2  # plain rounds each gradient to bf16
    scale = sums[False].abs().max()
    assert (sums[True] - sums[False]).abs().max() <= tolerance * scale
    assert scale > 0


def test_what_was_installed_goes_again(model_parallel, kernels):
    from megatron.core.models.common.embeddings import rope_utils
    from megatron.core.tensor_parallel import layers
    from megatron.core.transformer import attention
    from megatron.training import training

    names = {
        (rope_utils, "fused_apply_rotary_pos_emb"),
        (attention, "apply_fused_qkv_rotary_pos_emb"),
        (attention, "HAVE_FUSED_QKV_ROPE"),
        (fused_bias_swiglu, "SwiGLUFunction"),
        (language_module, "fused_vocab_parallel_cross_entropy"),
        (layers, "_grad_accum_fusion_available"),
        (training, "get_megatron_optimizer"),
    }
    install(PLAIN | {"adamw": "te"})
    before = {(owner, name): getattr(owner, name) for owner, name in names}
    liger = dict.fromkeys(("swiglu", "cross_entropy"), "liger")
    for _ in range(2):
        kernels(rope="triton", weight_gradients="addmm", adamw="fused", **liger)
    assert all(getattr(owner, name) is not before[owner, name] for owner, name in names)
    install(PLAIN | {"adamw": "te"})
    assert all(getattr(owner, name) is before[owner, name] for owner, name in names)
