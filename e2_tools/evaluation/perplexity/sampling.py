# SPDX-License-Identifier: Apache-2.0
"""A random sample of documents that anybody can draw again, from a file of any size.

Of the documents that qualify, the sample is the N whose SHA-256 of "SEED:SHA-256 of the text"
(both in hexadecimal, the text in UTF-8) is the smallest. Every set of N different texts is equally
likely, and the choice depends on neither the order of the documents, nor the others in the file,
nor a random number generator.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterable
from typing import Protocol

RULE = "smallest sha256(f'{seed}:{sha256 of the text}')"


class Numbered(Protocol):
    """A text with its place in the file."""

    line: int
    sha256: str


def priority(seed: int, text_sha256: str) -> str:
    """Return what documents are sorted by, in hexadecimal."""
    return hashlib.sha256(f"{seed}:{text_sha256}".encode()).hexdigest()


def draw_sample[Text: Numbered, Document](
    texts: Iterable[Text], count: int, seed: int, accept: Callable[[Text], Document | None]
) -> list[Document]:
    """Draw documents, holding no more than ``count`` of them at a time.

    Args:
        texts: in any order.
        count: N.
        seed: any.
        accept: makes the document of a text (the dear part: it tokenizes), None if it does not
            qualify. It is not called for texts that cannot get into the sample any more.

    Returns:
        the documents in the order of their lines; fewer than ``count`` if no more qualify.
    """
    heap: list[tuple[int, int, Document]] = []  # the last in order on top; equal texts by line
    for text in texts:
        key = (-int(priority(seed, text.sha256), 16), -text.line)
        if len(heap) == count and key < heap[0][:2]:
            continue
        document = accept(text)
        if document is not None:
            heapq.heappush(heap, (*key, document))
            if len(heap) > count:
                heapq.heappop(heap)
    return [document for _, _, document in sorted(heap, key=lambda entry: -entry[1])]
