# SPDX-License-Identifier: Apache-2.0
"""Which weights a folder holds: results, and trainings, go on only with those they began with.

A folder keeps its name when another iteration is exported into it.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from e2_common.errors import UserError

PARTS, PART = 512, 8192  # of a file: how many are looked at, and bytes of each
_PATTERNS = ("*.safetensors", "*.bin")  # transformers prefers the former


def weights_of(folder: Path) -> str | None:
    """Return what tells the weights of a Hugging Face folder from others.

    It is the SHA-256, in hexadecimal, of the sizes of their files and of parts all over them, for
    training changes all tensors. A file of up to 4 MiB is read whole, of a larger one as much.

    Args:
        folder: of the model.

    Returns:
        None where no file holds weights.

    Raises:
        UserError: a file cannot be read.
    """
    for pattern in _PATTERNS:
        if files := sorted(folder.glob(pattern)):
            digest = hashlib.sha256()
            for path in files:
                for part in _parts(path):
                    digest.update(part)
            return digest.hexdigest()
    return None


def _parts(path: Path) -> Iterator[bytes]:
    try:
        size = path.stat().st_size
        yield f"{size};".encode()
        with path.open("rb") as file:
            yield from _spread(file, size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); mend or replace it") from error


def _spread(file: BinaryIO, size: int) -> Iterator[bytes]:
    step = max(PART, size / PARTS)
    place = 0.0
    while place < size:
        file.seek(int(place))
        yield file.read(PART)
        place += step
