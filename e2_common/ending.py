# SPDX-License-Identifier: Apache-2.0
"""How a command ends when it is told to, when it fails, or when nobody reads what it prints."""

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130  # as shells give it after Ctrl-C
BROKEN_PIPE = 141  # after SIGPIPE
CLEANING_SECONDS = 30  # that a failed rank has
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


def run_script(main: Callable[[], object]) -> None:
    """Call the ``main`` of a script whose processes work together; a failure ends this one.

    Python cleans up behind an exception, and that may last for ever in a rank whose communication
    broke (NCCL without memory, a peer that is gone), and torchrun waits for it. So what is
    registered with ``atexit`` gets half a minute, and nothing else is cleaned up.

    Args:
        main: which returns, raises, or exits with a code.
    """
    try:
        main()
        return
    except SystemExit as end:
        if end.code in (None, 0):
            raise
        code = end.code if isinstance(end.code, int) else 1
        if not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    _leave(code)


def _leave(code: int) -> NoReturn:
    limit = threading.Timer(CLEANING_SECONDS, os._exit, (code,))
    limit.daemon = True
    limit.start()
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
