# SPDX-License-Identifier: Apache-2.0
"""The Triton kernel behind ``rope``. Importing this file imports Triton."""

import triton
import triton.language as tl


@triton.jit
def rotate_kernel(
    x,
    x_token,
    x_sample,
    x_head,
    y,
    y_token,
    y_sample,
    y_head,
    cos,
    sin,
    angle_token,
    angle_sample,
    HEADS: tl.constexpr,
    PAIRS: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
    PAIR_BLOCK: tl.constexpr,
    STEP: tl.constexpr,
    GAP: tl.constexpr,
):
    """Rotate all heads of one token of one sample; a program for each (token, sample).

    ``x_token``, ``x_sample``, ``x_head`` are strides in elements, likewise of y and the angles.
    Channel STEP * i is rotated together with STEP * i + GAP by angle i.
    """
    token = tl.program_id(0).to(tl.int64)
    sample = tl.program_id(1).to(tl.int64)
    pair = tl.arange(0, PAIR_BLOCK)
    real = pair < PAIRS
    angle = token * angle_token + sample * angle_sample + pair
    c = tl.load(cos + angle, mask=real, other=0.0)[None, :]  # [1, PAIR_BLOCK], fp32
    s = tl.load(sin + angle, mask=real, other=0.0)[None, :]
    for first in range(0, HEADS, HEAD_BLOCK):
        head = first + tl.arange(0, HEAD_BLOCK)[:, None]
        mask = (head < HEADS) & real[None, :]
        source = x + token * x_token + sample * x_sample + head * x_head + pair[None, :] * STEP
        target = y + token * y_token + sample * y_sample + head * y_head + pair[None, :] * STEP
        a = tl.load(source, mask=mask, other=0.0).to(tl.float32)
        b = tl.load(source + GAP, mask=mask, other=0.0).to(tl.float32)
        tl.store(target, (a * c - b * s).to(y.dtype.element_ty), mask=mask)
        tl.store(target + GAP, (b * c + a * s).to(y.dtype.element_ty), mask=mask)
