# SPDX-License-Identifier: Apache-2.0
"""The next item is made in a thread while the last one is still in use."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice


def one_ahead[T](makers: Iterable[Callable[[], T]]) -> Iterator[T]:
    """What each of ``makers`` returns, in their order.

    Reading and writing take turns otherwise, each waiting for the other. At most two items are
    held: the one that was given out, and the one after it.

    Args:
        makers: called one after the other, in one other thread.

    Raises:
        Exception: that of a maker, in its turn; those after it are not called.
    """
    with ThreadPoolExecutor(1, "one-ahead") as pool:
        remaining = iter(makers)
        coming = [pool.submit(maker) for maker in islice(remaining, 1)]
        while coming:
            item = coming.pop().result()
            coming = [pool.submit(maker) for maker in islice(remaining, 1)]
            yield item
