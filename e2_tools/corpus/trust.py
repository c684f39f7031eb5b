# SPDX-License-Identifier: Apache-2.0
"""Which characters two encoders treat alike, found out by trial as they come.

Encoders follow different versions of Unicode where they part words and compose marks. So a
character is tried once, alone and among others, before a text that holds it is trusted.
"""

import functools
import unicodedata
from collections.abc import Callable

import numpy as np

# What a character may do to its neighbours: be a letter before 's, one of three digits, a blank
# among blanks or before line breaks, a mark upon a letter, half of a contraction.
_AMONG = (
    *("{0}", "a{0}", "{0}a", "A{0}b", "a{0}B", "a{0}'s", "a'{0}b", "1{0}23", "{0}1234"),
    *(" {0} ", "  {0}  a", "!{0}!", "{0}\n \n", "\n{0}\n", "{0}{0}{0}", "e{0}\u0301", "e\u0301{0}"),
)
_JOINT = ". "
_NEAR = 16  # characters to either side of one that is new, compared too
_AT_ONCE = 32  # characters tried in one text; fewer where one of them differs
_TRUSTED, _UNKNOWN, _DIFFERENT = range(3)


class Trust:
    """The characters that may be left to the encoder that is not the reference.

    ASCII is trusted from the beginning. A character that Python's Unicode does not know yet is
    never trusted.

    Args:
        agree: whether both encoders give the same ids for a text.
    """

    def __init__(self, agree: Callable[[str], bool]):
        self._agree = agree
        self._states = np.full(0x110000, _UNKNOWN, np.uint8)
        self._states[:128] = _TRUSTED

    def allows(self, text: str) -> bool:
        """Whether all characters of ``text`` are trusted; those not met before are tried first."""
        if text.isascii():
            return True
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        beyond = codes[codes > 127]
        states = self._states[beyond]
        if states.max() == _TRUSTED:
            return True
        if (states == _UNKNOWN).any():
            self._learn(text, codes)
        return bool(self._states[beyond].max() == _TRUSTED)

    def compare(self, texts: list[str]) -> None:
        """Compare short texts of trusted characters, many at once, and blame where they differ."""
        texts = [text for text in texts if self.allows(text)]
        if texts and not self._agree(_JOINT.join(texts)):
            if len(texts) == 1:
                self.blame(texts[0])
            else:
                self.compare(texts[: len(texts) // 2])
                self.compare(texts[len(texts) // 2 :])

    def blame(self, text: str) -> bool:
        """Withdraw the trust in the characters for which a text of trusted ones differs.

        Returns:
            Whether that explains it: if not, it differs without a character beyond ASCII.
        """
        text = self._smallest(text)
        plain = "".join(char for char in text if char.isascii())
        if plain == text or not self._agree(plain):
            return False
        for char in set(text) - set(plain):
            self._states[ord(char)] = _DIFFERENT
        return True

    def _smallest(self, text: str) -> str:
        """Return a part that still differs and whose halves and middle do not."""
        while True:
            half = len(text) // 2
            parts = (text[:half], text[half:], text[half // 2 : half // 2 + half])
            differing = (part for part in parts if len(part) < len(text) and not self._agree(part))
            if (part := next(differing, None)) is None:
                return text
            text = part

    def _learn(self, text: str, codes: np.ndarray) -> None:
        places = np.flatnonzero(self._states[codes] == _UNKNOWN)
        new, first = np.unique(codes[places], return_index=True)
        chars = [chr(code) for code in new]
        self._states[new] = _DIFFERENT
        known = [char for char in chars if unicodedata.category(char) != "Cn"]
        for begin in range(0, len(known), _AT_ONCE):
            self._try(known[begin : begin + _AT_ONCE])
        self.compare([text[max(0, place - _NEAR) : place + _NEAR] for place in places[first]])

    def _try(self, chars: list[str]) -> None:
        if self._agree(_JOINT.join(map(_trial, chars))):
            self._states[[ord(char) for char in chars]] = _TRUSTED
        elif len(chars) > 1:
            self._try(chars[: len(chars) // 2])
            self._try(chars[len(chars) // 2 :])


def compositions() -> list[str]:
    """Return what composes to one character: letters with their marks, and Hangul."""
    every = map(chr, (*range(0x80, 0xAC00), *range(0xD7A4, 0xD800), *range(0xE000, 0x30000)))
    composed = [char for char in every if unicodedata.decomposition(char)[:1] not in ("", "<")]
    # Of the 11,172 syllables some in which each of the parts occurs.
    return [unicodedata.normalize("NFD", char) for char in (*composed, *_syllables())]


def _syllables() -> list[str]:
    return [chr(code) for code in range(0xAC00, 0xD7A4, 29)]


def _trial(char: str) -> str:
    trials = [among.format(char) for among in _AMONG]
    if unicodedata.combining(char):
        for mark in _one_mark_of_each_class():
            trials += [f"a{char}{mark}", f"a{mark}{char}"]
    return _JOINT.join(trials)


@functools.cache
def _one_mark_of_each_class() -> list[str]:
    """Return marks of Unicode 3.2, which every encoder knows: how they are put in order shows."""
    of_old = unicodedata.ucd_3_2_0
    found = {of_old.combining(char): char for char in map(chr, range(0x300, 0x3100))}
    return [char for order, char in found.items() if order]
