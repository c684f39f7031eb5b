# SPDX-License-Identifier: Apache-2.0
"""RoPE rules: what a scale does to the rotary frequencies, and how Hugging Face writes it.

A rule is one class and a line in :data:`RULES`. Its numbers equal those of transformers'
``ROPE_INIT_FUNCTIONS``, so that what is trained can be served. A rule acts on the frequencies that
the pre-trained model has itself, its :class:`OwnRope`: at g = 1 the model is what it was, but for
the few rules that say otherwise (:attr:`Rule.original_at_one`).
"""

from e2_llm.frequencies.by_parts import GeNE, Llama3, UntruncatedYaRN, YaRN
from e2_llm.frequencies.clipped import CoPE, DroPE
from e2_llm.frequencies.evenly import ABF, NTK, DoubleNTK, Linear, Plain
from e2_llm.frequencies.longrope import LongRoPE
from e2_llm.frequencies.own import Llama3Scaling, OwnRope, rope
from e2_llm.frequencies.rule import Frequencies, Rule

__all__ = ["BY_SCALE", "PLAIN", "RULES", "Frequencies", "Llama3Scaling", "OwnRope", "Rule", "rope"]

PLAIN = Plain()
RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Linear(),
        NTK(),
        DoubleNTK(),
        YaRN(),
        UntruncatedYaRN(),
        Llama3(),
        ABF(),
        LongRoPE(),
        GeNE(),
        CoPE(),
        DroPE(),
    )
}
# Those that depend on the scale alone.
BY_SCALE = tuple(name for name, rule in RULES.items() if not rule.reads)
