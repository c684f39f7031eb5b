# SPDX-License-Identifier: Apache-2.0
"""A user's mistake: one clear line, exit code 2, no traceback; errors of others as one line."""

import functools
import os
import sys
from collections.abc import Callable

_LONGEST = 200  # characters of somebody else's message inside one of ours


class UserError(Exception):
    """Something the user can mend.

    The message is one line that names the file or the flag and says what to do about it.
    """


def brief(error: BaseException) -> str:
    """Return the first line of an error, or its type's name, for use inside a one-line message."""
    lines = str(error).strip().splitlines()
    return lines[0][:_LONGEST].rstrip() if lines else type(error).__name__


def on_one_line(error: BaseException | str) -> str:
    """Return all lines of an error joined, for errors whose first line says too little."""
    return " ".join(str(error).split())[:_LONGEST]


def exit_on_user_error[**P, R](main: Callable[P, R]) -> Callable[P, R]:
    """Decorate a ``main`` so that a :class:`UserError` becomes one line and exit code 2."""

    @functools.wraps(main)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return main(*args, **kwargs)
        except UserError as error:
            if _speaks():
                print(f"error: {error}", file=sys.stderr, flush=True)
            sys.exit(2)

    return wrapper


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
