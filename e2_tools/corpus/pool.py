# SPDX-License-Identifier: Apache-2.0
"""Map a function over a stream with worker processes, in order and in bounded memory."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from e2_common.errors import UserError

# Items in flight for each worker: one in hand, and others so that it never waits, neither for the
# reader nor for an item that keeps another worker busy.
_IN_FLIGHT = 8

_function: Callable[[Any], Any]


def ordered_map[T, R](function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yield ``function(item)`` for each item, in order.

    At most ``8 * workers`` items are read ahead of the result. The workers are forked, so that
    ``function`` may hold anything, a loaded tokenizer included; items and results are pickled.
    One worker means this process itself.

    Raises:
        UserError: a worker died. Whatever ``function`` raises is raised here.
    """
    if workers == 1:
        yield from map(function, items)
        return
    executor = ProcessPoolExecutor(
        workers, multiprocessing.get_context("fork"), _begin_worker, (function,)
    )
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(_call, item))
            if len(pending) >= _IN_FLIGHT * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            "--workers: a worker process was killed, perhaps for want of memory; try fewer"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _begin_worker(function: Callable[[Any], Any]) -> None:
    # The parent alone answers Ctrl-C, and ends the workers in an orderly way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    global _function
    _function = function


def _call(item: Any) -> Any:
    return _function(item)
