# SPDX-License-Identifier: Apache-2.0
"""Placements by name, and mixtures of them.

A new one is a class in a file here and a place in the tuple below.
"""

from typing import NamedTuple

from e2_common.errors import UserError
from e2_llm.placements.base import Placement, Settings
from e2_llm.placements.ends import HeadMiddleTail, Tail
from e2_llm.placements.joints import Sentences, Turns
from e2_llm.placements.offset import Offset, Plain
from e2_llm.placements.scattered import Float, Random, RandomWithEnds
from e2_llm.placements.skips import Skip, Skips
from e2_llm.sampler import fraction

__all__ = [
    "PLACEMENTS",
    "READ_BY_PLACEMENTS",
    "Placement",
    "Settings",
    "Share",
    "choose",
    "parse_mixture",
]

PLACEMENTS: dict[str, type[Placement]] = {
    placement.name: placement
    for placement in (
        Offset, Plain, Skip, Skips, Random, RandomWithEnds, Float, HeadMiddleTail, Tail,
        Sentences, Turns,
    )
}  # fmt: skip
# Fields of the configuration that are for some placements only.
READ_BY_PLACEMENTS = sorted({name for part in PLACEMENTS.values() for name in part.reads})


class Share(NamedTuple):
    """A placement's share of the draws."""

    name: str
    share: float


def parse_mixture(text: str) -> tuple[Share, ...]:
    """Read ``--e2-placement``: one name, or names with shares as ``skips:0.7,random:0.3``.

    Raises:
        UserError: a name is unknown or twice there, or the shares do not add up to 1.
    """
    parts = []
    for item in text.split(","):
        name, separator, share = item.partition(":")
        if name not in PLACEMENTS:
            raise UserError(
                f"--e2-placement {text}: no placement {name!r}; there are {', '.join(PLACEMENTS)}"
            )
        if not separator and "," in text:
            raise UserError(f"--e2-placement {text}: say its share, as in skips:0.7,random:0.3")
        try:
            parts.append(Share(name, float(share) if separator else 1.0))
        except ValueError:
            raise UserError(f"--e2-placement {text}: {share!r} is no share") from None
    if len({part.name for part in parts}) < len(parts):
        raise UserError(f"--e2-placement {text}: names a placement twice")
    # Not "any(share <= 0)": a share that is no number compares as False with everything.
    total = sum(part.share for part in parts)
    if not all(part.share > 0 for part in parts) or not abs(total - 1) < 1e-6:
        raise UserError(f"--e2-placement {text}: shares are above 0 and add up to 1")
    return tuple(parts)


def choose(mixture: tuple[Share, ...], word: int) -> str:
    """The placement that a 64-bit word falls on."""
    left = fraction(word)
    for name, share in mixture[:-1]:
        if left < share:
            return name
        left -= share
    return mixture[-1].name
