# SPDX-License-Identifier: Apache-2.0
"""Encode with gigatoken instead of Hugging Face's library, where both give the same ids.

Texts for which they may differ go to the reference: those of characters that they treat unlike
(:mod:`e2_tools.corpus.trust`) and those of bytes that the vocabulary lacks. Of every run both are
compared on texts known to be awkward and on the first documents, before anything is written, and
on every thousandth text after that.
"""

import ctypes
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from e2_tools.corpus.tokenizer import Tokenizer
from e2_tools.corpus.trust import Trust, compositions

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


# What a run counts: texts left to the reference, later ones compared, and those that differed.
BY_REFERENCE, COMPARED, DIFFERED = "by reference", "compared", "differed"


class Refused(Exception):
    """Why gigatoken cannot stand in for the reference.

    Attributes:
        installed: whether it is there at all.
    """

    def __init__(self, reason: str, installed: bool = True):
        super().__init__(reason)
        self.installed = installed


def use_fast(tokenizer: Tokenizer, texts: Iterable[str]) -> Tokenizer:
    """Return a tokenizer of the same ids that encodes with gigatoken where it can be trusted.

    Args:
        tokenizer: a Hugging Face tokenizer, the reference.
        texts: the first texts of the corpus.

    Raises:
        Refused: gigatoken is missing, does not know this tokenizer, or gives other ids for what
            is in every text.
    """
    model = _Gigatoken(tokenizer)
    for text in _first(texts, CHECK_CHARACTERS):
        model.require_agreement(text)
    return replace(tokenizer, model=model, counts=model.counts)


class _Gigatoken:
    """Answers with gigatoken what :class:`Tokenizer` asks of its model."""

    def __init__(self, tokenizer: Tokenizer):
        self._reference = tokenizer.model
        self.counts: Counter[str] = Counter()
        hugging_face = self._hugging_face(tokenizer.model)
        try:
            import gigatoken
        except ImportError as error:
            raise Refused("is not installed (pip install gigatoken)", installed=False) from error
        try:
            source, self._made_up = _complete(hugging_face)
            self._make = lambda: gigatoken.Tokenizer(source).encode
            self._encode = self._make()
            self._prefix, self._suffix = self._around()
        except Refused:
            raise
        except Exception as error:  # whatever it raises, the reference remains
            raise Refused(f"does not take this tokenizer ({_shorten(str(error))})") from error
        self._trust: Trust | None = Trust(self._agrees)
        self._calls = self._characters = 0
        self._process, self._resident = 0, 0
        special = hugging_face.all_special_tokens
        spaced = [f"a {token} b" for token in special]
        pairs = self._pairs_of_ascii()
        for text in (*_AWKWARD, *special, *spaced, "".join(special), *pairs):
            self.require_agreement(text)
        if _composes(hugging_face):
            self._trust.compare(compositions())

    def tokenize(self, text: str) -> np.ndarray | list[int]:
        """Return the ids of ``text``, shape (tokens,), uint32 where gigatoken encodes."""
        self._calls += 1
        if self._calls % CHECK_EVERY == 0:
            self._compare(text[:CHECK_CHARACTERS])
        self._characters += len(text)
        if self._characters >= LOOK_EVERY:
            self._characters = 0
            self._bound_memory()
        ids = self._ids(text) if self._trust and self._trust.allows(text) else None
        if ids is None:
            self.counts[BY_REFERENCE] += 1
            return self._reference.tokenize(text)
        return ids

    def require_agreement(self, text: str) -> None:
        """Compare; let the reference have the characters for which the ids differ.

        Raises:
            Refused: they differ for a text of ASCII alone.
        """
        if self._trust.allows(text) and not self._agrees(text) and not self._trust.blame(text):
            raise Refused(f"gives other ids than the reference for {_shorten(text)}")

    def _compare(self, text: str) -> None:
        """Compare, while it runs: after a difference without an explanation trust nothing more."""
        if self._trust and self._trust.allows(text):
            self.counts[COMPARED] += 1
            if not self._agrees(text):
                self.counts[DIFFERED] += 1
                if not self._trust.blame(text):
                    self._trust = None

    def _bound_memory(self) -> None:
        """Begin with empty caches once they have grown: gigatoken remembers every word it saw."""
        if self._process != os.getpid():  # a worker just forked
            self._process, self._resident = os.getpid(), _resident_bytes()
        elif _resident_bytes() - self._resident > CACHE_BYTES:
            self._encode = self._make()
            _return_freed_memory()

    def _ids(self, text: str) -> np.ndarray | None:
        """Return the ids, or None if the vocabulary lacks a byte of the text."""
        ids = self._encode(text)
        if self._made_up is not None and len(ids) and ids.max() >= self._made_up:
            return None
        if len(self._prefix) or len(self._suffix):
            return np.concatenate([self._prefix, ids, self._suffix])
        return ids

    def _agrees(self, text: str) -> bool:
        """Whether the reference gives the same ids, or has to be asked anyway."""
        ids = self._ids(text)
        return ids is None or ids.tolist() == list(self._reference.tokenize(text))

    def _pairs_of_ascii(self) -> Iterator[str]:
        ascii_ = [char for char in map(chr, range(128)) if self._ids(char) is not None]
        for first in ascii_:
            yield "".join(f"{first}{second}" for second in ascii_)

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


def _composes(hugging_face: Any) -> bool:
    normalizer = hugging_face.backend_tokenizer.normalizer
    return normalizer is not None and normalizer.normalize_str("e\u0301") == "\u00e9"


def _complete(hugging_face: Any) -> tuple[Any, int | None]:
    """Return a tokenizer whose vocabulary has every byte, as gigatoken wants it.

    Returns:
        The tokenizer, and the first of the ids that were made up for bytes that it lacked. No merge
        holds them, so they come out where such a byte goes in. None: it lacks none.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    backend = hugging_face.backend_tokenizer
    if not isinstance(backend.model, BPE):
        return hugging_face, None
    alphabet = ByteLevel.alphabet()
    if backend.model.byte_fallback:
        alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    missing = sorted(token for token in alphabet if backend.model.token_to_id(token) is None)
    if not missing:
        return hugging_face, None
    content = json.loads(backend.to_str())
    ids = [*content["model"]["vocab"].values(), *(each["id"] for each in content["added_tokens"])]
    first = max(ids) + 1
    content["model"]["vocab"] |= {token: first + n for n, token in enumerate(missing)}
    return Backend.from_str(json.dumps(content)), first


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
