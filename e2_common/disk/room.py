# SPDX-License-Identifier: Apache-2.0
"""What torch and safetensors say of a disk that is full or broken, as the error that it is.

torch's writer may say no more than "unexpected pos 704 vs 598", safetensors puts the number of the
system's error into its text.
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

FULL = 2**24  # bytes; a disk on which no more are free after a failed save was too small for it
_NUMBER = re.compile(r"\(os error (\d+)\)")
_TORCH = re.compile(r"inline_container|PytorchStreamWriter")


def free_if_full(folder: str | Path) -> int | None:
    """The bytes that are free where a save failed, if these are next to none."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return free if free < FULL else None


@contextlib.contextmanager
def as_os_errors(folder: str | Path) -> Iterator[None]:
    """Raise an ``OSError`` where the body, which saves into ``folder``, fails for the disk's sake.

    Raises:
        OSError: with the number of the system's error; of torch's writer, which does not tell, EIO.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        number = _number(error, folder)
        if number is None:
            raise
        raise OSError(number, os.strerror(number)) from error


def _number(error: Exception, folder: str | Path) -> int | None:
    told = _NUMBER.search(str(error))
    if told:
        return int(told[1])
    if free_if_full(folder) is not None:
        return errno.ENOSPC
    return errno.EIO if _TORCH.search(str(error)) else None
