# SPDX-License-Identifier: Apache-2.0
"""A user's mistake: one clear line, exit code 2, no traceback; errors of others as one line."""

import functools
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from e2_common.ending import BROKEN_PIPE, INTERRUPTED, interruptible, standard_output_fails

_LONGEST = 200  # characters of somebody else's message inside one of ours


class UserError(Exception):
    """Something the user can mend.

    The message is one line that names the file or the flag and says what to do about it.
    """


def brief(error: BaseException) -> str:
    """Return the first line of an error, or its type's name, for use inside a one-line message."""
    lines = str(error).strip().splitlines()
    return lines[0][:_LONGEST].rstrip() if lines else type(error).__name__


def last_line(output: str) -> str:
    """Return the last line that a program said, which is why it failed, if it says so."""
    return (output.strip().splitlines() or ["no message"])[-1]


def on_one_line(error: BaseException | str) -> str:
    """Return all lines of an error joined, for errors whose first line says too little."""
    return " ".join(str(error).split())[:_LONGEST]


def exit_on_user_error[**P, R](main: Callable[P, R]) -> Callable[P, R]:
    """Decorate a ``main`` so that a :class:`UserError` becomes one line and exit code 2.

    Ctrl-C, SIGTERM and SIGHUP become a line and exit code 130, after what was begun is undone. A
    reader that has gone, such as ``head``, ends the command in silence with exit code 141.
    """

    @functools.wraps(main)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with interruptible():
                result = main(*args, **kwargs)
        except UserError as error:
            _exit(2, f"error: {error}")
        except KeyboardInterrupt:
            _exit(INTERRUPTED, "interrupted")
        except SystemExit:
            _check_standard_output()
            raise
        except OSError as error:
            _check_standard_output(probe=error.filename is None)
            raise
        _check_standard_output()
        return result

    return wrapper


def _exit(code: int, line: str) -> NoReturn:
    if _speaks():
        print(line, file=sys.stderr, flush=True)
    sys.exit(code)


def _check_standard_output(probe: bool = False) -> None:
    error = standard_output_fails(probe)
    if isinstance(error, BrokenPipeError):
        sys.exit(BROKEN_PIPE)
    if error is not None:
        _exit(2, f"error: standard output: cannot be written ({error.strerror})")


def _speaks() -> bool:
    """Whether this process should tell.

    Before the ranks of a run have met they all check the same arguments, so one a node is enough
    (nodes may see other files). Later a rank may be alone with its mistake: the first one tells.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_initialized():
        return os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        store = torch.distributed.distributed_c10d._get_default_store()
        return store.add("e2_user_errors", 1) == 1
    except RuntimeError:  # the rank that kept the store is gone
        return True
