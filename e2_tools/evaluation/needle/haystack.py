# SPDX-License-Identifier: Apache-2.0
"""RULER's haystacks: one sentence group over and over, or the sentences of a text."""

from pathlib import Path
from typing import Any, Protocol

from e2_common.errors import UserError
from e2_tools.evaluation.passkey.prompt import FILLER
from e2_tools.evaluation.ruler.text import SENTENCE_END, read_haystack

NOISE = FILLER  # RULER took it from the pass key's paper


class Haystack(Protocol):
    """What surrounds a needle.

    Attributes:
        settings: what a result file says about it.
    """

    settings: dict[str, Any]

    def around(self, needle: str, size: int, depth: float) -> str:
        """Return ``size`` units with the needle between two sentences at a depth in percent."""
        ...


class Noise:
    """The haystack of ``niah_single_1``: lines of :data:`NOISE`, each a unit."""

    settings = {"haystack": "noise"}

    def around(self, needle: str, size: int, depth: float) -> str:
        """See :class:`Haystack`."""
        before = int(size * depth / 100)
        return "\n".join([NOISE] * before + [needle] + [NOISE] * (size - before))


class Text:
    """The haystack of ``niah_single_2`` and ``_3``, of any text; its unit is a word.

    White space becomes a single blank, and a text that is too short begins anew, as RULER does.
    A sentence ends behind a word that ends with a full stop, exclamation or question mark (RULER
    asks NLTK's Punkt, whose model does not come with its package).

    Args:
        path: see :func:`e2_tools.evaluation.ruler.text.read_haystack`.

    Raises:
        UserError: it is missing, malformed or has no words.
    """

    def __init__(self, path: Path) -> None:
        text, described = read_haystack(path)
        self.words = text.split()
        if not self.words:
            raise UserError(f"--haystack {path}: has no words; name another text, or noise")
        ends = [at for at, word in enumerate(self.words, 1) if SENTENCE_END.search(word)]
        self.ends = ends if ends[-1:] == [len(self.words)] else [*ends, len(self.words)]
        self.settings = {"haystack": described}

    def around(self, needle: str, size: int, depth: float) -> str:
        """See :class:`Haystack`."""
        rounds = -(-size // len(self.words))
        words = (self.words * rounds)[:size]
        inner = (round * len(self.words) + end for round in range(rounds) for end in self.ends)
        ends = [0, *(end for end in inner if end < size), size]
        place = ends[int((len(ends) - 1) * depth / 100)]
        return " ".join([" ".join(words[:place]), needle, " ".join(words[place:])])


def load_haystack(name: str) -> Haystack:
    """Return the haystack that ``--haystack`` names: ``noise``, or a file.

    Raises:
        UserError: the file is missing, malformed or has no words.
    """
    return Noise() if name == "noise" else Text(Path(name))
