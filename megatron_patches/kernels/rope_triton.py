# SPDX-License-Identifier: Apache-2.0
"""The Triton kernel behind ``rope``. Importing this file imports Triton."""

import triton
import triton.language as tl


@triton.jit
def rotate_kernel(
    x,
    x_token,
    x_sample,
    x_group,
    x_head,
    y,
    y_token,
    y_sample,
    y_group,
    y_head,
    cos,
    sin,
    angle_token,
    angle_sample,
    HEADS: tl.constexpr,
    OF_GROUP: tl.constexpr,
    PAIRS: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
    PAIR_BLOCK: tl.constexpr,
    STEP: tl.constexpr,
    GAP: tl.constexpr,
    ROTATE: tl.constexpr,
):
    """Rotate all heads of one token of one sample; a program for each (token, sample).

    ``x_token``, ``x_sample``, ``x_group``, ``x_head`` are strides in elements, likewise of y and
    the angles; ``OF_GROUP`` heads make a group. Channel STEP * i is rotated together with
    STEP * i + GAP by angle i; without ``ROTATE`` they are copied, and there are no angles.
    """
    token = tl.program_id(0).to(tl.int64)
    sample = tl.program_id(1).to(tl.int64)
    pair = tl.arange(0, PAIR_BLOCK)
    real = pair < PAIRS
    if ROTATE:
        angle = token * angle_token + sample * angle_sample + pair
        c = tl.load(cos + angle, mask=real, other=0.0)[None, :]  # [1, PAIR_BLOCK], fp32
        s = tl.load(sin + angle, mask=real, other=0.0)[None, :]
    for first in range(0, HEADS, HEAD_BLOCK):
        head = first + tl.arange(0, HEAD_BLOCK)[:, None]
        mask = (head < HEADS) & real[None, :]
        group, own = head // OF_GROUP, head % OF_GROUP
        source = x + token * x_token + sample * x_sample + group * x_group + own * x_head
        target = y + token * y_token + sample * y_sample + group * y_group + own * y_head
        source += pair[None, :] * STEP
        target += pair[None, :] * STEP
        a = tl.load(source, mask=mask, other=0.0).to(tl.float32)
        b = tl.load(source + GAP, mask=mask, other=0.0).to(tl.float32)
        if ROTATE:
            a, b = a * c - b * s, b * c + a * s
        tl.store(target, a.to(y.dtype.element_ty), mask=mask)
        tl.store(target + GAP, b.to(y.dtype.element_ty), mask=mask)
