# SPDX-License-Identifier: Apache-2.0
"""RoPE in one Triton kernel: rotates [s, b, n, d] by the angles of E2, one set for each sample.

Transformer Engine's kernel takes one set of angles for all samples of a micro-batch; this one takes
[s, b, 1, d] too. It reads its input where it lies (queries are a slice of the joint projection),
computes in fp32 and rounds once, where Megatron's own rounds cosines, products and sum to the
dtype of the states.
"""

import weakref
from functools import lru_cache
from typing import Any

import torch
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
        return _launch(states, cos, sin, interleaved)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        return _launch(gradient, cos, -sin, ctx.interleaved), None, None, None


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


def _launch(states: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Rotate; see :func:`rotate` for shapes."""
    tokens, samples, heads, channels = states.shape
    pairs = cos.size(-1)
    if cos.size(0) != tokens or cos.size(1) not in (1, samples) or 2 * pairs > channels:
        raise ValueError(f"angles of {tuple(cos.shape)} do not fit states of {tuple(states.shape)}")
    if states.stride(-1) != 1:
        states = states.contiguous()
    output = torch.empty(states.shape, dtype=states.dtype, device=states.device)
    if 2 * pairs < channels:
        output[..., 2 * pairs :] = states[..., 2 * pairs :]
    kernel, next_power_of_2 = _kernel()
    kernel[(tokens, samples)](
        states,
        *states.stride()[:3],
        output,
        *output.stride()[:3],
        cos,
        sin,
        cos.stride(0),
        cos.stride(1) if cos.size(1) > 1 else 0,
        HEADS=heads,
        PAIRS=pairs,
        HEAD_BLOCK=min(16, next_power_of_2(heads)),
        PAIR_BLOCK=next_power_of_2(pairs),
        STEP=2 if interleaved else 1,
        GAP=1 if interleaved else pairs,
    )
    return output


@lru_cache
def _kernel() -> tuple[Any, Any]:
    """The kernel and Triton's ``next_power_of_2``; Triton is imported here and not before."""
    import triton

    from megatron_patches.kernels.rope_triton import rotate_kernel

    return rotate_kernel, triton.next_power_of_2
