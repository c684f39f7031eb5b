# SPDX-License-Identifier: Apache-2.0
"""How a scale g is drawn: one small class each, by name in :data:`DISTRIBUTIONS`."""

from typing import ClassVar

from e2_llm.sampler import below, fraction


class Distribution:
    """A distribution of scales between a smallest and a largest one.

    Attributes:
        name: as ``--e2-scale-distribution`` takes it.
        help: for ``--help``, a few words.
        whole: whether it draws whole scales only; windows are then served at such.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    whole: ClassVar[bool] = False

    def draw(self, word: int, smallest: float, largest: int) -> float:
        """Map a 64-bit word to a scale.

        Args:
            word: uniform.
            smallest: the smallest scale.
            largest: the largest one, G_max.
        """
        raise NotImplementedError


class UniformInteger(Distribution):
    """g ~ U{1..G_max} (arXiv 2401.06951, Eq 6)."""

    name, help, whole = "uniform-integer", "integers (the paper)", True

    def draw(self, word: int, smallest: float, largest: int) -> float:
        """See :meth:`Distribution.draw`."""
        return smallest + below(word, largest - int(smallest) + 1)


class Uniform(Distribution):
    """Real scales."""

    name, help = "uniform", "reals"

    def draw(self, word: int, smallest: float, largest: int) -> float:
        """See :meth:`Distribution.draw`."""
        return _rounded(smallest + (largest - smallest) * fraction(word))


class LogUniform(Distribution):
    """Real scales whose logarithm is uniform: every doubling of the window is met alike often."""

    name, help = "log-uniform", "reals with a uniform logarithm"

    def draw(self, word: int, smallest: float, largest: int) -> float:
        """See :meth:`Distribution.draw`."""
        return _rounded(smallest * (largest / smallest) ** fraction(word))


class EndsHeavy(Distribution):
    """GeNE's integers: a quarter the smallest, a quarter the largest, the rest even.

    With four scales or fewer all are alike (Findings of ACL 2024; LhLi-QED/GeNE, ``gene_rope.py``).
    """

    name, help, whole = "ends-heavy", "integers, a quarter at either end (GeNE)", True

    def draw(self, word: int, smallest: float, largest: int) -> float:
        """See :meth:`Distribution.draw`."""
        count = largest - int(smallest) + 1
        if count <= 4:
            return smallest + below(word, count)
        # In units of a quarter: the ends have one each, the count - 2 between them share two.
        quarter, rest = word >> 62, word & (2**62 - 1)
        if quarter in (0, 3):
            return float(smallest if quarter == 0 else largest)
        inner = ((quarter - 1) << 62 | rest) << 1  # 63 uniform bits, as a word of 64
        return smallest + 1 + below(inner, count - 2)


def scale_edges(largest: float) -> list[float]:
    """Edges of the scale buckets: powers of 2 from 1, the last edge is the largest scale.

    Buckets are [1, 2), [2, 4), ...; only the last one contains its upper edge.

    Args:
        largest: the largest scale that is drawn, at least 1.
    """
    edges = [1.0]
    while 2 * edges[-1] < largest:
        edges.append(2 * edges[-1])
    return [*edges, max(2.0, float(largest))]


def _rounded(scale: float) -> float:
    """Six decimals: the last bits of pow() differ between machines, the draw must not."""
    return round(scale, 6)


DISTRIBUTIONS: dict[str, Distribution] = {
    distribution.name: distribution
    for distribution in (UniformInteger(), Uniform(), LogUniform(), EndsHeavy())
}
