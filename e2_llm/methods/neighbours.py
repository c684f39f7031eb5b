# SPDX-License-Identifier: Apache-2.0
"""Other methods that draw the scale, each with its own distribution, frequencies and placement."""

from e2_llm.methods.sampled import SampledScaleMethod
from e2_llm.registry import register


@register
class GeNEMethod(SampledScaleMethod):
    """GeNE (Findings of ACL 2024): a whole scale, a quarter at either end; no offset.

    Frequency i is divided by g^w, w rising from 0 to 1 up to the first dimension that turns fewer
    than three times within L.
    """

    name, title = "gene", "GeNE (Findings of ACL 2024; LhLi-QED/GeNE)"
    help = "the scale is drawn, mostly the smallest and the largest; geometric ramp (GeNE)"
    reads = ("max_scale", "draw_per")
    distribution_name, rule_name, placement_name = "ends-heavy", "gene", "plain"


@register
class CLEXMethod(SampledScaleMethod):
    """CLEX (arXiv 2310.16450) without its learned part: a whole scale, random places with ends.

    The frequencies are those of the NTK-aware base at 2 g - 1, which CLEX's learned ones start
    from.
    """

    name, title = "clex", "CLEX's sampling, without its learned frequencies (arXiv 2310.16450)"
    help = "the scale is drawn, and random places; NTK-aware base at 2 g - 1 (CLEX's sampling)"
    reads = ("max_scale", "draw_per")
    distribution_name, rule_name, placement_name = "uniform-integer", "ntk-2g", "random-ends"
