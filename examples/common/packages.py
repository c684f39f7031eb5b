# SPDX-License-Identifier: Apache-2.0
"""The files in a Debian package, read without installing it; needs dpkg-deb."""

import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from e2_common.errors import UserError


def files_of(package: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield path and content of every file of a .deb, in its order.

    A content must be read before the next one is asked for. Paths begin without ``./``.

    Args:
        package: the .deb file.

    Raises:
        UserError: it is none, or dpkg-deb is not there.
    """
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    try:
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,
            tarfile.open(fileobj=process.stdout, mode="r|") as archive,
        ):
            for member in archive:
                if member.isfile():
                    yield member.name.removeprefix("./"), archive.extractfile(member)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{package}: not a package that dpkg-deb reads ({error})") from error
