# SPDX-License-Identifier: Apache-2.0
"""Encode with gigatoken instead of Hugging Face's library, where both give the same ids.

Of every run the two are compared on texts known to be awkward and on the first documents, before
anything is written, and on every thousandth text after that.
"""

import ctypes
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from e2_common.errors import UserError
from e2_tools.corpus.tokenizer import Tokenizer

AUTO, GIGATOKEN, REFERENCE = "auto", "gigatoken", "reference"
ENCODERS = (AUTO, GIGATOKEN, REFERENCE)
# The reference takes some thirty times as long, so this costs about 3 %.
CHECK_EVERY = 1000
# Characters compared at the start, and of each later text: a quarter of a second.
CHECK_CHARACTERS = 500_000
# Characters after which a worker looks at its memory, and bytes that its caches may grow by.
LOOK_EVERY = 10_000_000
CACHE_BYTES = 256 << 20

_AWKWARD = (
    *("", "a", " ", "  a", "a  ", "\n", "\r\n\t", "\x00", "\ufeffa", "e\u0301 \u00e9 ﬁ Å"),
    *("\u202ea\u202c\u200b\u200d", "👩‍👩‍👧‍👦🏳️‍🌈", "\U0010ffff\uffff\u0085\u2028\u2029", "İıſK"),
    *(
        "子曰：「學而時習之」",
        "กรุงเทพ",
        "한국어",
        "العربية",
        "मानक",
        "a" * 1000,
        " " * 300,
        "I'LL we've",
    ),
    *("x=-1e-9;y+=2**10 //...", "1234567890 ١٢٣", "\u3000\u00a0", "_snake CamelCase"),
)


class Refused(Exception):
    """Why gigatoken cannot stand in for the reference.

    Attributes:
        installed: whether it is there at all.
    """

    def __init__(self, reason: str, installed: bool = True):
        super().__init__(reason)
        self.installed = installed


def use_fast(tokenizer: Tokenizer, texts: Iterable[str]) -> Tokenizer:
    """Return a tokenizer of the same ids that encodes with gigatoken.

    Args:
        tokenizer: a Hugging Face tokenizer, the reference.
        texts: the first texts of the corpus.

    Raises:
        Refused: gigatoken is missing, does not know this tokenizer, or gives other ids.
    """
    model = _Gigatoken(tokenizer)
    for text in _first(texts, CHECK_CHARACTERS):
        if not model.agrees(text):
            raise Refused(f"gives other ids than the reference for {_shorten(text)}")
    return replace(tokenizer, model=model)


class _Gigatoken:
    """Answers with gigatoken what :class:`Tokenizer` asks of its model."""

    def __init__(self, tokenizer: Tokenizer):
        self._reference = tokenizer.model
        hugging_face = self._hugging_face(tokenizer.model)
        try:
            import gigatoken
        except ImportError as error:
            raise Refused("is not installed (pip install gigatoken)", installed=False) from error
        self._make = lambda: gigatoken.Tokenizer(hugging_face).encode
        try:
            self._encode = self._make()
            self._prefix, self._suffix = self._around()
        except Refused:
            raise
        except Exception as error:  # whatever it raises, the reference remains
            raise Refused(f"does not take this tokenizer ({_shorten(str(error))})") from error
        self._calls = self._characters = 0
        self._process, self._resident = 0, 0
        special = hugging_face.all_special_tokens
        spaced = [f"a {token} b" for token in special]
        for text in (*_AWKWARD, *special, *spaced, "".join(special)):
            if not self.agrees(text):
                raise Refused(f"gives other ids than the reference for {_shorten(text)}")

    def tokenize(self, text: str) -> np.ndarray:
        """Return the ids of ``text``, shape (tokens,), uint32."""
        self._calls += 1
        if self._calls % CHECK_EVERY == 0 and not self.agrees(text[:CHECK_CHARACTERS]):
            raise UserError(
                f"--encoder: gigatoken gives other ids than the reference for {_shorten(text)}; "
                f"run again with --encoder {REFERENCE}"
            )
        self._characters += len(text)
        if self._characters >= LOOK_EVERY:
            self._characters = 0
            self._bound_memory()
        ids = self._encode(text)
        if len(self._prefix) or len(self._suffix):
            return np.concatenate([self._prefix, ids, self._suffix])
        return ids

    def _bound_memory(self) -> None:
        """Begin with empty caches once they have grown: gigatoken remembers every word it saw."""
        if self._process != os.getpid():  # a worker just forked
            self._process, self._resident = os.getpid(), _resident_bytes()
        elif _resident_bytes() - self._resident > CACHE_BYTES:
            self._encode = self._make()
            _return_freed_memory()

    def agrees(self, text: str) -> bool:
        """Whether the reference gives the same ids."""
        ids = np.concatenate([self._prefix, self._encode(text), self._suffix])
        return ids.tolist() == list(self._reference.tokenize(text))

    def _around(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids that the reference puts before and after every text."""
        inner, outer = self._encode("a").tolist(), list(self._reference.tokenize("a"))
        for start in range(len(outer) - len(inner) + 1):
            if outer[start : start + len(inner)] == inner:
                stop = start + len(inner)
                return np.array(outer[:start], np.uint32), np.array(outer[stop:], np.uint32)
        raise Refused("gives other ids than the reference for 'a'")

    @staticmethod
    def _hugging_face(model: Any) -> Any:
        """Return the transformers tokenizer within Megatron's."""
        hugging_face = model._tokenizer.tokenizer
        backend = getattr(hugging_face, "backend_tokenizer", None)
        if backend is None:
            raise Refused("takes only fast tokenizers")
        if backend.truncation is not None or backend.padding is not None:
            raise Refused("does not truncate or pad as this tokenizer.json asks")
        return hugging_face


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux, for which there is no gigatoken either
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _return_freed_memory() -> None:
    """Give freed memory back to the system; otherwise each emptying would leave some behind."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _first(texts: Iterable[str], characters: int) -> Iterator[str]:
    for text in texts:
        yield text[:characters]
        characters -= len(text)
        if characters <= 0:
            return


def _shorten(text: str) -> str:
    return repr(" ".join(text.split())[:60] or text[:20])
