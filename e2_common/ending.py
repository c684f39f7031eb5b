# SPDX-License-Identifier: Apache-2.0
"""How a command ends when it is told to, or when nobody reads what it prints."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

INTERRUPTED = 130  # as shells give it after Ctrl-C
BROKEN_PIPE = 141  # after SIGPIPE
_ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """In the body SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does.

    So what a scheduler or a closed terminal ends leaves as little behind. A signal that somebody
    else handles or ignores (nohup) is let be, and so are those of a rank under torchrun, which may
    wait for others for ever. A process forked in the body ends as if this were not there.
    """
    process = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in handled:  # a second one must not cut the cleaning up short
            signal.signal(each, signal.SIG_IGN if os.getpid() == process else signal.SIG_DFL)
        if os.getpid() == process:
            raise KeyboardInterrupt
        os.kill(os.getpid(), number)

    handled = []
    if threading.current_thread() is threading.main_thread() and "LOCAL_RANK" not in os.environ:
        handled = [each for each in _ENDING if signal.getsignal(each) is signal.SIG_DFL]
    for each in handled:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each in handled:
            if signal.getsignal(each) in (interrupt, signal.SIG_IGN):
                signal.signal(each, signal.SIG_DFL)


def standard_output_fails(probe: bool = False) -> OSError | None:
    """Write out what was printed; return why it cannot be, and then let it go nowhere.

    Args:
        probe: write a line break too. If Python does not buffer, nothing else would show what an
            error that names no file was about.
    """
    try:
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.write("\n" * probe)
            sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return error
    return None
