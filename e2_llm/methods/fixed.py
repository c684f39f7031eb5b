# SPDX-License-Identifier: Apache-2.0
"""Plain positions: the original RoPE, and the frequencies of one fixed factor."""

from e2_llm.frequencies import PLAIN, RULES, Rule
from e2_llm.methods.base import PositionMethod
from e2_llm.registry import METHODS, register


@register
class PlainMethod(PositionMethod):
    """The original RoPE, by Megatron's own module."""

    name, title, help = "none", "plain RoPE", "Megatron's own RoPE"
    reads = ()
    serves_any_window = True  # untuned: as every model without scaling

    @property
    def rule(self) -> Rule:
        """A scale does nothing in training."""
        return PLAIN

    @property
    def smallest_scale(self) -> float:
        """1."""
        return 1.0

    @property
    def largest_scale(self) -> float:
        """There is no limit to a window."""
        return float("inf")

    @property
    def trained_scale(self) -> float:
        """1."""
        return 1.0

    @property
    def largest_window(self) -> float:
        """No limit."""
        return float("inf")


class RuleMethod(PositionMethod):
    """The rule of the method's own name at one factor."""

    @property
    def rule(self) -> Rule:
        """The rule of this name."""
        return RULES[self.name].configured(self.config)


@register
class LinearMethod(RuleMethod):
    """Position interpolation (arXiv 2306.15595) at one factor."""

    name, title = "linear", "position interpolation at one factor (arXiv 2306.15595)"
    help = "every frequency divided by --e2-factor"


@register
class NTKMethod(RuleMethod):
    """The NTK-aware base (bloc97; arXiv 2309.00071, section 3.1) at one factor."""

    name, title = "ntk", "NTK-aware base at one factor (arXiv 2309.00071)"
    help = "the NTK-aware base for --e2-factor"


@register
class YaRNMethod(RuleMethod):
    """YaRN with attention temperature (arXiv 2309.00071) at one factor."""

    name, title, help = "yarn", "YaRN at one factor (arXiv 2309.00071)", "YaRN at --e2-factor"


@register
class Llama3Method(RuleMethod):
    """The scaling of Llama 3.1 at one factor."""

    name, title = "llama3", "Llama 3's frequency scaling at one factor"
    help = "Llama 3.1's scaling at --e2-factor"


def _of_rule(rule: Rule) -> type[RuleMethod]:
    """The method of a rule that has no class here."""
    says = {
        "name": rule.name,
        "title": rule.title.replace(" (", " at one factor (", 1),
        "help": f"{rule.title} for --e2-factor",
        "__doc__": f"{rule.title}, at one factor.",
        "__module__": __name__,
    }
    return type(f"{type(rule).__name__}Method", (RuleMethod,), says)


for _rule in RULES.values():
    if _rule.name not in METHODS:
        register(_of_rule(_rule))
