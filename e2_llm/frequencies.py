# SPDX-License-Identifier: Apache-2.0
"""Rotary frequencies that make room for a longer window: linear, NTK-aware, YaRN, Llama 3.

Each function takes the head size d, the base θ, the scale g = W / L and the pre-trained window L in
tokens, and returns d / 2 inverse frequencies (fp32, radians per token) and the attention factor m
by which cosines and sines are multiplied, so that scores grow by m². At g = 1 all are the original
RoPE. Numbers equal transformers' ``ROPE_INIT_FUNCTIONS``, so that what is trained can be served.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Frequencies(NamedTuple):
    """Inverse frequencies [d / 2], fp32 on the CPU, and the attention factor m."""

    inverse: Tensor
    attention_factor: float = 1.0


def rope(dim: int, theta: float) -> Tensor:
    """The original frequencies θ^(-2i/d), i = 0 .. d/2 - 1 (RoFormer, arXiv 2104.09864, Eq 15)."""
    return 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)


def linear(dim: int, theta: float, scale: float, base_window: int) -> Frequencies:
    """Position interpolation: every frequency divided by g (arXiv 2306.15595, Eq 4)."""
    return Frequencies(rope(dim, theta) / scale)


def ntk_theta(dim: int, theta: float, scale: float) -> float:
    """The base θ g^(d/(d-2)) with which the lowest frequency is that of linear interpolation."""
    return theta * scale ** (dim / (dim - 2))


def ntk(dim: int, theta: float, scale: float, base_window: int) -> Frequencies:
    """NTK-aware scaling: a larger base (bloc97, 2023; YaRN, arXiv 2309.00071, section 3.1)."""
    return Frequencies(rope(dim, ntk_theta(dim, theta, scale)))


def yarn(
    dim: int,
    theta: float,
    scale: float,
    base_window: int,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
) -> Frequencies:
    """YaRN: NTK-by-parts with attention temperature (arXiv 2309.00071, sections 3.2 and 3.4).

    Dimensions that turn more than ``beta_fast`` times within L keep their frequency, those that
    turn less than ``beta_slow`` times are interpolated linearly, a ramp lies between (Eq 13; as
    in transformers, its ends are rounded outwards). m = 0.1 ln g + 1 (Eq 15).
    """
    frequencies = rope(dim, theta)
    low = max(math.floor(_dimension_turning(beta_fast, dim, theta, base_window)), 0)
    high = min(math.ceil(_dimension_turning(beta_slow, dim, theta, base_window)), dim - 1)
    width = max(high - low, 0.001)
    ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / width).clamp(0, 1)
    blended = frequencies / scale * ramp + frequencies * (1 - ramp)
    return Frequencies(blended, 0.1 * math.log(scale) + 1.0)


def _dimension_turning(turns: float, dim: int, theta: float, window: int) -> float:
    """The (real) index of the dimension whose angle makes ``turns`` turns within a window."""
    return dim * math.log(window / (turns * 2 * math.pi)) / (2 * math.log(theta))


def llama3(
    dim: int,
    theta: float,
    scale: float,
    base_window: int,
    low_freq_factor: float = 1.0,
    high_freq_factor: float = 4.0,
) -> Frequencies:
    """Llama 3.1's scaling: wavelengths above L / low are interpolated, below L / high kept.

    Between the two a blend, linear in L / wavelength (transformers, ``llama3``).
    """
    frequencies = rope(dim, theta)
    turns = base_window * frequencies / (2 * math.pi)  # L / wavelength
    kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0, 1)
    return Frequencies(frequencies * (kept + (1 - kept) / scale))


FrequencyRule = Callable[[int, float, float, int], Frequencies]
FREQUENCY_RULES: dict[str, FrequencyRule] = {
    "linear": linear,
    "ntk": ntk,
    "yarn": yarn,
    "llama3": llama3,
}
