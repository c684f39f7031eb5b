# SPDX-License-Identifier: Apache-2.0
"""Position methods: what is drawn for a training window, its positions, its frequencies.

A method is a small class with ``draw``, ``positions`` and ``frequencies``, and a line in
:data:`METHODS`. Angles are position times frequency; everything else of RoPE stays as it is.
"""

import torch
from torch import Tensor

from e2_llm.config import E2Config
from e2_llm.frequencies import FREQUENCY_RULES, Frequencies, rope
from e2_llm.positions import max_offset, rotary_positions, scale_for_window
from e2_llm.sampler import Draw, below, fraction, random_subset, random_words


class FixedMethod:
    """Plain positions at the frequencies of one fixed factor: what is served is what is trained.

    ``linear`` is position interpolation (arXiv 2306.15595), ``ntk`` the NTK-aware base (bloc97;
    arXiv 2309.00071, section 3.1), ``yarn`` YaRN with attention temperature (same paper),
    ``llama3`` the scaling of Llama 3.1, ``none`` the original RoPE.
    """

    def __init__(self, config: E2Config) -> None:
        self.config = config

    def draw(self, seed: int, index: int) -> Draw:
        """The draw of the sample with number ``index``: always the fixed factor."""
        return Draw(self.config.constant_scale, 0)

    def positions(self, draw: Draw, length: int, device: torch.device | None = None) -> Tensor:
        """Positions of a window of ``length`` tokens, fp32 [length]."""
        return rotary_positions(length, device=device)

    def frequencies(self, draw: Draw, dim: int, theta: float) -> Frequencies:
        """Frequencies [d / 2] for a head of size ``dim`` and the base ``theta``."""
        if self.config.frequency_rule == "none":
            return Frequencies(rope(dim, theta))
        rule = FREQUENCY_RULES[self.config.frequency_rule]
        return rule(dim, theta, draw.scale, self.config.base_window)

    def serving_scale(self, window: int) -> float:
        """The scale at which a window of ``window`` tokens is served: the trained one."""
        return self.config.constant_scale


class E2Method(FixedMethod):
    """E2-LLM (arXiv 2401.06951): scale g and offset t are drawn, t leaves the first tokens alone.

    The paper's frequencies are linear: positions m / g, (m + t) / g (Eq 5 and 7). With another
    rule the positions are m, m + t and g sets the window of that rule.
    """

    def draw(self, seed: int, index: int) -> Draw:
        """Scale uniform over {1..G_max} (Eq 6) or as configured, t over {0..g L - R} (Eq 7)."""
        scale_word, offset_word, share_word, _ = random_words(seed, index)
        scale = self._scale(scale_word, share_word)
        if self.config.no_offset:
            return Draw(scale, 0)
        room = max_offset(scale, self.config.base_window, self.config.train_window)
        return Draw(scale, below(offset_word, room + 1))

    def _scale(self, word: int, share_word: int) -> float:
        config = self.config
        if config.fixed_scale:
            return config.fixed_scale
        smallest, largest = config.smallest_scale, config.max_scale
        if fraction(share_word) < config.base_share:
            return smallest
        if config.scale_distribution == "uniform":
            scale = smallest + (largest - smallest) * fraction(word)
        elif config.scale_distribution == "log-uniform":
            scale = smallest * (largest / smallest) ** fraction(word)
        else:
            integers = range(config.smallest_integer_scale, largest + 1)
            return float(integers[below(word, len(integers))])
        # Six decimals: the last bits of pow() differ between machines, the draw must not.
        return round(scale, 6)

    def positions(self, draw: Draw, length: int, device: torch.device | None = None) -> Tensor:
        """Positions of a window of ``length`` tokens, fp32 [length]."""
        scale = draw.scale if self.config.frequency_rule == "linear" else 1.0
        return rotary_positions(length, scale, draw.offset, self.config.keep_first, device)

    def frequencies(self, draw: Draw, dim: int, theta: float) -> Frequencies:
        """Frequencies [d / 2]; for the linear rule the positions carry the scale already."""
        if self.config.frequency_rule == "linear":
            return Frequencies(rope(dim, theta))
        return super().frequencies(draw, dim, theta)

    def serving_scale(self, window: int) -> float:
        """The scale at which a window of ``window`` tokens is served."""
        return scale_for_window(window, self.config.base_window)


class PoSEMethod(FixedMethod):
    """PoSE (arXiv 2309.10400): two chunks, a random skip between them, up to the target window.

    The first chunk has 1 .. (R + 1) / 2 tokens, the second is moved by u in {0 .. W - R}, both
    uniform. Frequencies are those of the fixed factor W / L.
    """

    def draw(self, seed: int, index: int) -> Draw:
        """The skip as offset, the word for where the window is cut."""
        cut, skip, _, _ = random_words(seed, index)
        room = max_offset(
            self.config.constant_scale, self.config.base_window, self.config.train_window
        )
        return Draw(self.config.constant_scale, below(skip, room + 1), cut)

    def positions(self, draw: Draw, length: int, device: torch.device | None = None) -> Tensor:
        """Positions of a window of ``length`` tokens, fp32 [length]."""
        first_chunk = 1 + below(draw.word, (length + 1) // 2)
        return rotary_positions(length, 1.0, draw.offset, first_chunk, device)


class RandPosMethod(FixedMethod):
    """Randomized positions (arXiv 2305.16843): R of the W positions, sorted, without repetition.

    Frequencies are those of the fixed factor W / L.
    """

    def draw(self, seed: int, index: int) -> Draw:
        """The word that seeds the choice; validation has offset 0 and plain positions."""
        return Draw(self.config.constant_scale, 1, random_words(seed, index)[0])

    def positions(self, draw: Draw, length: int, device: torch.device | None = None) -> Tensor:
        """Positions of a window of ``length`` tokens, fp32 [length]."""
        if draw.offset == 0:
            return rotary_positions(length, device=device)
        window = round(draw.scale * self.config.base_window)
        chosen = random_subset(draw.word, length, window)  # [length], sorted
        return torch.from_numpy(chosen).to(device=device, dtype=torch.float32)


METHODS: dict[str, type[FixedMethod]] = {
    "e2": E2Method,
    "none": FixedMethod,
    "linear": FixedMethod,
    "ntk": FixedMethod,
    "yarn": FixedMethod,
    "llama3": FixedMethod,
    "pose": PoSEMethod,
    "randpos": RandPosMethod,
}


def method_for(config: E2Config) -> FixedMethod:
    """The method that ``--position-method`` names."""
    return METHODS[config.position_method](config)


def validation_draw(config: E2Config) -> Draw:
    """The draw of validation on training windows: t = 0, and the fixed scale that they need."""
    return Draw(config.constant_scale, 0)
