# SPDX-License-Identifier: Apache-2.0
"""Methods that place the tokens of a window at one factor: what is served is what is trained."""

from typing import ClassVar

from e2_llm.methods.base import PositionMethod
from e2_llm.registry import register
from e2_llm.sampler import Draw, random_words


class PlacedMethod(PositionMethod):
    """A placement of E2's collection at the factor W / L.

    Attributes:
        placement_name: of the placement.
    """

    placement_name: ClassVar[str]
    reads = ("frequencies", "factor", "draw_per")

    @property
    def placements(self) -> tuple[str, ...]:
        """The one of the class."""
        return (self.placement_name,)

    def draw(self, seed: int, index: int) -> Draw:
        """The draw of the sample with number ``index``."""
        # The order of the words must never change: a run has to resume with the same draws.
        word, offset_word, _, _ = random_words(seed, index)
        placement = self.placement(self.placement_name)
        room = placement.room(self.config.factor, self.reach(index))
        return placement.draw(self.config.factor, room, offset_word, word)


@register
class PoSEMethod(PlacedMethod):
    """Two chunks with a skip between them, up to the target window."""

    name, title = "pose", "PoSE (arXiv 2309.10400)"
    help = "two chunks with a random skip, up to --e2-factor times L"
    placement_name = "skip"


@register
class RandPosMethod(PlacedMethod):
    """R of the W positions, sorted, without repetition."""

    name, title = "randpos", "randomized positions (arXiv 2305.16843)"
    help = "sorted random positions, up to --e2-factor times L"
    placement_name = "random"


@register
class RandomizedYaRNMethod(PlacedMethod):
    """Random positions at YaRN's frequencies; the range grows in stages (arXiv 2606.23687).

    The paper trains on ranges of 8k, 10k, 12k and 16k for a target of 16k, served by plain YaRN.
    """

    name, title = "randomized-yarn", "Randomized YaRN (arXiv 2606.23687)"
    help = "as randpos with YaRN's frequencies, the range growing by --e2-curriculum"
    reads = ("factor", "curriculum", "draw_per")
    placement_name, rule_name = "random", "yarn"
    stages = (0.5, 0.625, 0.75, 1.0)


@register
class RandomFloatMethod(PlacedMethod):
    """R real positions in the target window, sorted."""

    name, title = "rfs", "random float sampling (arXiv 2602.14050)"
    help = "sorted random real positions, up to --e2-factor times L"
    placement_name = "float"


@register
class CREAMMethod(PlacedMethod):
    """Fixed head and tail, a middle chunk about the middle of the target window."""

    name, title = "cream", "CREAM (arXiv 2406.07138)"
    help = "head, middle and tail, the middle drawn about the middle of --e2-factor times L"
    placement_name = "cream"


@register
class EndPromptMethod(PlacedMethod):
    """The last tokens of a window at the end of the target window."""

    name, title = "endprompt", "EndPrompt (arXiv 2605.14589)"
    help = "the last tokens lie at the end of --e2-factor times L"
    reads = ("frequencies", "factor")  # nothing is drawn
    placement_name = "tail"
