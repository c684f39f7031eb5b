# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM end a command alike: outputs are undone, one line says so."""

import contextlib
import signal
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def exit_when_interrupted() -> Iterator[None]:
    """Run the body; on SIGINT or SIGTERM it unwinds and the command ends with exit code 130.

    A scheduler ends a job with SIGTERM: it leaves as little behind as Ctrl-C does.
    """
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, previous)
