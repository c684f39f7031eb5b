# SPDX-License-Identifier: Apache-2.0
"""Every RoPE rule, with settings for those that need some."""

import json
import math

from e2_llm.frequencies import RULES

G = 16.0  # the scale of the factor lists


def factor_list(dim, largest=G):
    """Factors as LongRoPE finds them: none for the highest frequency, growing, then uneven."""
    return [
        round(largest ** (i / (dim // 2 - 1)) * (1 + 0.1 * (i % 3)), 4) for i in range(dim // 2)
    ]


def settings_of(name, dim=32):
    """Fields of E2Config beside the scale, which the rule needs for heads of size ``dim``.

    A method that is no rule of its own needs none.
    """
    factors = {"long_factor": factor_list(dim), "factor": G}
    examples = {"theta": 2.5e6, "longrope_factors": json.dumps(factors)}
    return {field: examples[field] for field in RULES[name].reads} if name in RULES else {}


def rule(name, dim=32):
    """The rule, ready to compute."""
    found = RULES[name]
    return found.with_settings(settings_of(name, dim)) if found.reads else found


def turns(inverse, window):
    """How often each angle turns within a window."""
    return inverse * window / (2 * math.pi)
