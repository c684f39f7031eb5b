# SPDX-License-Identifier: Apache-2.0
"""E2-LLM (arXiv 2401.06951): where the tokens of a short training window lie in a long one.

A training window of R tokens draws a scale g and places for its tokens in a window of g L tokens; a
window of W tokens is then served at g = W / L. Knows neither Megatron nor transformers; numpy and
torch are imported where they are needed.

    >>> from e2_llm import E2Config, method_for
    >>> config = E2Config(base_window=4096, train_window=4096, max_scale=20)
    >>> method = method_for(config)
    >>> draw = method.draw(seed=1234, index=0)           # g and t of sample 0
    >>> method.positions(draw, 4096)                     # fp32 [4096]
    >>> method.frequencies(draw, dim=128, theta=10000.0).inverse  # fp32 [64]
    >>> method.serving_scale(32768)                      # 8.0
"""

from e2_llm.batch_draws import iteration_draws, micro_batch_draws
from e2_llm.config import E2Config
from e2_llm.frequencies import RULES, Frequencies, OwnRope, Rule
from e2_llm.methods import PositionMethod, method_for
from e2_llm.placements import PLACEMENTS
from e2_llm.positions import max_offset, rotary_positions
from e2_llm.recipes import RECIPES
from e2_llm.registry import METHODS, register
from e2_llm.sampler import Draw
from e2_llm.scales import DISTRIBUTIONS
from e2_llm.serving import serving_scale

__all__ = [
    "DISTRIBUTIONS",
    "METHODS",
    "PLACEMENTS",
    "RECIPES",
    "RULES",
    "Draw",
    "E2Config",
    "Frequencies",
    "OwnRope",
    "PositionMethod",
    "Rule",
    "iteration_draws",
    "max_offset",
    "method_for",
    "micro_batch_draws",
    "register",
    "rotary_positions",
    "serving_scale",
]
