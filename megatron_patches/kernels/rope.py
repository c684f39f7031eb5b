# SPDX-License-Identifier: Apache-2.0
"""RoPE in one Triton kernel: rotates [s, b, n, d] by the angles of E2, one set for each sample.

Transformer Engine's kernel takes one set of angles for all samples of a micro-batch; this one takes
[s, b, 1, d] too. It reads its input where it lies (queries are a slice of the joint projection),
computes in fp32 and rounds once, where Megatron's own rounds cosines, products and sum to the
dtype of the states.

Queries, keys and values are slices of one joint projection. Autograd would rotate the gradients of
queries and keys into tensors of their own and copy all three together; :func:`rotate_joint` rotates
them straight into the gradient of the projection.
"""

import weakref
from functools import lru_cache
from typing import Any

import torch
from megatron.core.transformer import TransformerConfig
from torch import Tensor


class _CosSin:
    """Cosines and sines of the angles last seen; all layers of a micro-batch share a tensor.

    They are found by the tensor's identity, not by its shape or address: other angles are always
    another tensor.
    """

    def __init__(self) -> None:
        self.of: weakref.ref[Tensor] | None = None
        self.version = -1
        self.value: tuple[Tensor, Tensor] | None = None

    def __call__(self, freqs: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
        """Both as fp32 [s, b or 1, r / 2], from angles [s, b or 1, 1, r or r + 1]."""
        known = self.of is not None and self.of() is freqs and self.version == freqs._version
        if not known:
            half = freqs.size(-1) // 2
            angles = freqs[:, :, 0, : 2 * half : 2] if interleaved else freqs[:, :, 0, :half]
            angles = angles.float()
            cos, sin = angles.cos(), angles.sin()
            if freqs.size(-1) % 2:
                cos, sin = cos * freqs[:, :, 0, -1:], sin * freqs[:, :, 0, -1:]
            self.value = (cos.contiguous(), sin.contiguous())
            self.of, self.version = weakref.ref(freqs), freqs._version
        return self.value


# Queries and keys may have different tensors, the same ones in all layers of a micro-batch.
_plain, _scaled = _CosSin(), _CosSin()


class _Rotate(torch.autograd.Function):
    """y = x cos + rotate_half(x) sin; its gradient is the rotation by the negative angles.

    Cosines and sines may have a factor; the gradient then has it too.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.interleaved = interleaved
        return _rotated(states, cos, sin, interleaved)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotated(gradient, cos, -sin, ctx.interleaved), None, None, None


class _RotateJoint(torch.autograd.Function):
    """Rotated queries and keys, and values, out of a joint projection [s, b, g, (n / g + 2) d].

    ``sizes`` are the channels of a group's queries, key and value, the last two d.
    """

    @staticmethod
    def forward(
        ctx: Any,
        joint: Tensor,
        query_angles: tuple[Tensor, Tensor],
        key_angles: tuple[Tensor, Tensor],
        sizes: list[int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(*query_angles, *key_angles)
        ctx.sizes, ctx.shape = sizes, joint.shape
        query, key, value = joint.split(sizes, dim=-1)
        query = _rotated(query.unflatten(-1, (-1, sizes[-1])), *query_angles)  # [s, b, g, n / g, d]
        return query.flatten(2, 3), _rotated(key, *key_angles), value

    @staticmethod
    def backward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, None, None, None]:
        query_cos, query_sin, key_cos, key_sin = ctx.saved_tensors
        joint = torch.empty(ctx.shape, dtype=query.dtype, device=query.device)
        to_query, to_key, to_value = joint.split(ctx.sizes, dim=-1)
        to_query = to_query.unflatten(-1, (-1, ctx.sizes[-1]))
        _launch(query.unflatten(2, to_query.shape[2:4]), to_query, query_cos, -query_sin)
        _launch(key.unsqueeze(3), to_key.unsqueeze(3), key_cos, -key_sin)
        # torch would copy between such strides one number at a time.
        _launch(value.unsqueeze(3), to_value.unsqueeze(3))
        return joint, None, None, None


def rotate(states: Tensor, freqs: Tensor, interleaved: bool = False) -> Tensor:
    """What Megatron calls as ``fused_apply_rotary_pos_emb``.

    Args:
        states: queries or keys [s, b, n, d].
        freqs: angles [s, b or 1, 1, r], r <= d even; channels from r on are passed through. One
            channel more is a factor of what is rotated, [s, b or 1, 1, r + 1].
        interleaved: pairs are neighbouring channels instead of halves.

    Returns:
        [s, b, n, d], contiguous.
    """
    cos_sin = _scaled if freqs.size(-1) % 2 else _plain
    cos, sin = cos_sin(freqs, interleaved)
    return _Rotate.apply(states, cos, sin, interleaved)


def rotate_joint(
    joint: Tensor, query_freqs: Tensor, key_freqs: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """What Megatron calls as ``apply_fused_qkv_rotary_pos_emb``.

    Args:
        joint: [s, b, g, (n / g + 2) d], of each group its queries, key and value side by side.
        query_freqs: angles, as :func:`rotate` takes them; pairs are halves.
        key_freqs: the same of the keys.
        sizes: channels of a group's queries, key and value.

    Returns:
        Queries [s, b, n, d] and keys [s, b, g, d], rotated, and values [s, b, g, d], a view.
    """
    angles = [
        (_scaled if freqs.size(-1) % 2 else _plain)(freqs, False)
        for freqs in (query_freqs, key_freqs)
    ]
    return _RotateJoint.apply(joint, *angles, sizes)


def takes_joint(config: TransformerConfig, documents: bool) -> bool:
    """Whether :func:`rotate_joint` can serve every layer of a model.

    Megatron hands the projection over as it is: nothing may stand between it and the rotation, and
    a rank needs whole groups of it.

    Args:
        config: of the model.
        documents: whether those of a window are apart; Megatron then splits the projection.
    """
    between = config.qk_layernorm or config.qk_l2_norm or config.attention_output_gate
    other_layers = (
        config.no_rope_freq or config.heterogeneous_block_specs or config.multi_latent_attention
    )
    other_layers = other_layers or config.experimental_attention_variant
    other_ways = (
        config.test_mode or config.flash_decode or config.fine_grained_activation_offloading
    )
    whole = config.num_query_groups >= config.tensor_model_parallel_size
    return whole and not (
        between or other_layers or other_ways or config.rotary_interleaved or documents
    )


def _rotated(states: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """Rotate [s, b, n, d] or [s, b, g, n / g, d] into a tensor of its own."""
    output = torch.empty(states.shape, dtype=states.dtype, device=states.device)
    groups = (one if one.dim() == 5 else one.unsqueeze(3) for one in (states, output))
    _launch(*groups, cos, sin, interleaved)
    return output


def _launch(
    states: Tensor,
    output: Tensor,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    interleaved: bool = False,
) -> None:
    """Rotate, or copy, [s, b, g, n / g, d] into ``output``, whose channels lie side by side."""
    tokens, samples, groups, of_group, channels = states.shape
    pairs = channels // 2 if cos is None else cos.size(-1)
    angle_strides = (0, 0)
    if cos is not None:
        if cos.size(0) != tokens or cos.size(1) not in (1, samples) or 2 * pairs > channels:
            shape = (tokens, samples, groups * of_group, channels)
            raise ValueError(f"angles of {tuple(cos.shape)} do not fit states of {shape}")
        angle_strides = cos.stride(0), cos.stride(1) if cos.size(1) > 1 else 0
    if states.stride(-1) != 1:
        states = states.contiguous()
    if 2 * pairs < channels:
        output[..., 2 * pairs :] = states[..., 2 * pairs :]
    kernel, next_power_of_2 = _kernel()
    kernel[(tokens, samples)](
        states,
        *states.stride()[:4],
        output,
        *output.stride()[:4],
        cos,
        sin,
        *angle_strides,
        HEADS=groups * of_group,
        OF_GROUP=of_group,
        PAIRS=pairs,
        HEAD_BLOCK=min(16, next_power_of_2(groups * of_group)),
        PAIR_BLOCK=next_power_of_2(pairs),
        STEP=2 if interleaved else 1,
        GAP=1 if interleaved else pairs,
        ROTATE=cos is not None,
    )


@lru_cache
def _kernel() -> tuple[Any, Any]:
    """The kernel and Triton's ``next_power_of_2``; Triton is imported here and not before."""
    import triton

    from megatron_patches.kernels.rope_triton import rotate_kernel

    return rotate_kernel, triton.next_power_of_2
