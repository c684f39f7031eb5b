# SPDX-License-Identifier: Apache-2.0
"""A user's mistake: one clear line, exit code 2, no traceback."""

import functools
import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend.

    The message is one line that names the file or the flag and says what to do about it.
    """


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
    (nodes may see other files). Later a rank may be alone with its mistake.
    """
    torch = sys.modules.get("torch")
    together = torch is not None and torch.distributed.is_initialized()
    return together or os.environ.get("LOCAL_RANK", "0") == "0"
