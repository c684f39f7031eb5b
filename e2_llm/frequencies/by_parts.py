# SPDX-License-Identifier: Apache-2.0
"""Rules that treat a dimension by how often its angle turns within the pre-trained window."""

import math
from typing import Any, ClassVar

from e2_llm.frequencies.own import Llama3Scaling, OwnRope
from e2_llm.frequencies.rule import Frequencies, Rule


class YaRN(Rule):
    """YaRN: NTK-by-parts with attention temperature (arXiv 2309.00071, sections 3.2 and 3.4).

    Dimensions that turn more than ``beta_fast`` times within L keep their frequency, those that
    turn less than ``beta_slow`` times are interpolated linearly, a ramp lies between (Eq 13; as
    in transformers, its ends are rounded outwards). m = 0.1 ln g + 1 (Eq 15).
    """

    name, title, hf_type = "yarn", "YaRN (arXiv 2309.00071)", "yarn"
    hf_settings: ClassVar[dict[str, Any]] = {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "attention_factor": None,
        "mscale": None,
        "mscale_all_dim": None,
        "truncate": True,
    }
    has_attention_factor = True

    def scaled(self, own: OwnRope, dim: int, scale: float, base_window: int) -> Frequencies:
        """See :meth:`Rule.scaled`."""
        import torch

        original = own.inverse(dim)
        low = own.index_turning(self.hf_settings["beta_fast"], dim, base_window)
        high = own.index_turning(self.hf_settings["beta_slow"], dim, base_window)
        if self.hf_settings["truncate"]:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        width = max(high - low, 0.001)
        ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / width).clamp(0, 1)
        blended = original / scale * ramp + original * (1 - ramp)
        return Frequencies(blended, 0.1 * math.log(scale) + 1.0)

    def to_native(self, own: OwnRope, dim: int, scale: float, base_window: int) -> dict[str, Any]:
        """The rule needs L, too."""
        plain = super().to_native(own, dim, scale, base_window)
        return {**plain, "original_max_position_embeddings": base_window}


class UntruncatedYaRN(YaRN):
    """YaRN with the ends of its ramp where they fall, as gpt-oss has it."""

    name, title = "yarn-untruncated", "YaRN, ends of the ramp not rounded (arXiv 2309.00071)"
    hf_settings: ClassVar[dict[str, Any]] = {**YaRN.hf_settings, "truncate": False}

    def to_native(self, own: OwnRope, dim: int, scale: float, base_window: int) -> dict[str, Any]:
        """transformers rounds unless told."""
        return {**super().to_native(own, dim, scale, base_window), "truncate": False}


class Llama3(Rule):
    """Llama 3.1's scaling: wavelengths above L / low are interpolated, below L / high kept.

    Between the two a blend, linear in L / wavelength (transformers, ``llama3``).
    """

    name, title, hf_type = "llama3", "Llama 3's frequency scaling", "llama3"
    hf_settings: ClassVar[dict[str, Any]] = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}

    def scaled(self, own: OwnRope, dim: int, scale: float, base_window: int) -> Frequencies:
        """See :meth:`Rule.scaled`."""
        low, high = self.hf_settings["low_freq_factor"], self.hf_settings["high_freq_factor"]
        scaling = Llama3Scaling(scale, low, high, base_window)
        return Frequencies(scaling.scaled(own.inverse(dim)))

    def to_native(self, own: OwnRope, dim: int, scale: float, base_window: int) -> dict[str, Any]:
        """The rule needs L and both factors, too."""
        plain = super().to_native(own, dim, scale, base_window)
        return {**plain, "original_max_position_embeddings": base_window, **self.hf_settings}


class GeNE(Rule):
    """GeNE's ramp: frequency i divided by g^w, w = min(i / c, 1) (ACL Findings 2024).

    c is the first dimension that turns less than three times within L.
    """

    name, title = "gene", "GeNE's geometric ramp (LhLi-QED/GeNE)"
    turns: ClassVar[float] = 3.0

    def scaled(self, own: OwnRope, dim: int, scale: float, base_window: int) -> Frequencies:
        """See :meth:`Rule.scaled`."""
        import torch

        original = own.inverse(dim)
        critical = int((base_window * original >= self.turns * 2 * math.pi).sum())
        # In a window too short for three turns of any dimension all are interpolated.
        weight = (torch.arange(dim // 2) / max(critical, 1e-3)).clamp(0, 1)
        return Frequencies(original / scale ** (weight if critical else torch.ones(dim // 2)))
