# SPDX-License-Identifier: Apache-2.0
"""The size and the CRC-32 of every file of a folder, written beside them when all are there."""

from collections.abc import Iterator
from pathlib import Path

from e2_common.disk.checksums import BLOCK, crc32
from e2_common.errors import UserError
from e2_common.json_file import read_json_object, write_json

NAME = "e2_files.json"


def write_manifest(folder: Path) -> None:
    """Write down what lies in a folder, and below it.

    Raises:
        OSError: a file cannot be read, or the manifest not be written.
    """
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "crc32": _sum(path)}
        for path in _files(folder)
    }
    write_json(folder / NAME, {"files": files})


def manifest_flaw(folder: Path) -> str | None:
    """What is wrong with the first file that is not as it was written; None if all are.

    Files that came later are no flaw.
    """
    try:
        files = read_json_object(folder / NAME, "").get("files")
    except UserError:
        files = None
    if not isinstance(files, dict):
        return f"{NAME} is missing or damaged"
    for name, known in sorted(files.items()):
        path = folder / name
        try:
            size = path.stat().st_size
            if size != known["bytes"]:
                return f"{name} has {size:,} bytes of {known['bytes']:,}"
            if _sum(path) != known["crc32"]:
                return f"{name} is damaged: its checksum is another one"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        except (KeyError, TypeError, ValueError):
            return f"{NAME} is damaged"
    return None


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != NAME)


def _sum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            value = crc32(block, value)
    return value
