# SPDX-License-Identifier: Apache-2.0
"""The text that needles are hidden in, and where its sentences end."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.files import read_text
from e2_common.json_file import parse_json_line, read_json_object
from e2_tools.corpus.sentences import load_punkt

SENTENCE_END = re.compile(r"""[.!?]["'”’)\]]*$""")
SENTENCES = ("punkt", "marks")


def read_haystack(path: Path) -> tuple[str, dict[str, Any]]:
    """Read the text of ``--haystack``, and what a result file says about it.

    Args:
        path: a text, JSON lines (``.jsonl``) whose objects have ``text``, or one such object
            (``.json``), the form of RULER's essays.

    Raises:
        UserError: it is missing or malformed.
    """
    texts, described = read_texts(path)
    return " ".join(texts), described


def read_texts(path: Path) -> tuple[list[str], dict[str, Any]]:
    """Read the texts of ``--haystack`` one by one; see :func:`read_haystack`."""
    content = read_text(path, "--haystack")
    digest = hashlib.sha256(content.encode()).hexdigest()
    return _texts(path, content), {"file": path.name, "sha256": digest}


def _texts(path: Path, content: str) -> list[str]:
    if path.suffix == ".json":
        text = read_json_object(path, "name a text, or an object with a text under 'text'")
        if not isinstance(text.get("text"), str):
            raise UserError(f"--haystack {path}: has no text under 'text'; mend it")
        return [text["text"]]
    if path.suffix != ".jsonl":
        return [content]
    texts = []
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        record = parse_json_line(line, f"--haystack {path}", number, "mend it")
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise UserError(f"--haystack {path}: line {number} has no text under 'text'; mend it")
        texts.append(record["text"])
    return texts


def sentence_splitter(by: str) -> Callable[[str], list[str]]:
    """Return a function from a text to its sentences.

    Args:
        by: ``punkt``, NLTK's model for English, which RULER asks; or ``marks``, a sentence ends
            behind a word that ends with a full stop, exclamation or question mark.

    Raises:
        UserError: NLTK's data is not installed.
    """
    if by == "punkt":
        return load_punkt("--sentences punkt", "; or give --sentences marks").tokenize
    return _by_marks


def _by_marks(text: str) -> list[str]:
    sentences: list[list[str]] = [[]]
    for word in text.split(" "):
        sentences[-1].append(word)
        if SENTENCE_END.search(word):
            sentences.append([])
    return [" ".join(words) for words in sentences if words]


class Essay:
    """A text by words, which begins anew where it is too short.

    Args:
        text: any.
        split: from a text to its sentences.
        path: of the text, for a message.

    Raises:
        UserError: it has no words.
    """

    def __init__(self, text: str, split: Callable[[str], list[str]], path: Path) -> None:
        if not text.strip():
            raise UserError(f"--haystack {path}: has no words; name another text")
        self._words = re.sub(r"\s+", " ", text).split(" ")  # an empty one at an end is RULER's
        self._split = split
        self._last: tuple[int, list[str]] = (0, [])  # samples of a window mostly are alike long

    def sentences(self, size: int) -> list[str]:
        """Return the sentences of the first ``size`` words."""
        if self._last[0] != size:
            rounds = -(-size // len(self._words))
            words = (self._words * rounds)[:size]
            self._last = (size, self._split(" ".join(words).strip()))
        return self._last[1]
