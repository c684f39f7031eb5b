# SPDX-License-Identifier: Apache-2.0
"""RULER's haystacks: one sentence group over and over, or the sentences of a text."""

import hashlib
import re
from pathlib import Path
from typing import Any, Protocol

from e2_common.errors import UserError
from e2_common.files import read_text
from e2_common.json_file import parse_json_line
from e2_tools.evaluation.passkey.prompt import FILLER

NOISE = FILLER  # RULER took it from the pass key's paper
SENTENCE_END = re.compile(r"""[.!?]["'”’)\]]*$""")


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
        path: a text, or JSON lines (``.jsonl``) whose objects have ``text``.

    Raises:
        UserError: it is missing, malformed or has no words.
    """

    def __init__(self, path: Path) -> None:
        content = read_text(path, "--haystack")
        self.words = _text(path, content).split()
        if not self.words:
            raise UserError(f"--haystack {path}: has no words; name another text, or noise")
        ends = [at for at, word in enumerate(self.words, 1) if SENTENCE_END.search(word)]
        self.ends = ends if ends[-1:] == [len(self.words)] else [*ends, len(self.words)]
        self.settings = {
            "haystack": {"file": path.name, "sha256": hashlib.sha256(content.encode()).hexdigest()}
        }

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


def _text(path: Path, text: str) -> str:
    if path.suffix != ".jsonl":
        return text
    texts = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        record = parse_json_line(line, f"--haystack {path}", number, "mend it")
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise UserError(f"--haystack {path}: line {number} has no text under 'text'; mend it")
        texts.append(record["text"])
    return " ".join(texts)
