# SPDX-License-Identifier: Apache-2.0
"""Outputs that a command line names: whether they can be written, before any work is done.

No output may be an input. A file is known by its place on the disk, not by its spelling.
"""

import argparse
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from e2_common.errors import UserError

# The first bytes of what a command may replace in a folder that it reads: pictures and pages.
_DRAWN = {".png": b"\x89PNG", ".html": b"<!doctype html>", ".md": b""}


class OutputFile(type(Path())):
    """A file to write, as the type of a flag; :func:`check_outputs` finds it by that."""


class OutputFolder(type(Path())):
    """A folder to write files into, likewise."""


def check_outputs(args: argparse.Namespace) -> None:
    """Check every output of a command line, against its other arguments as well.

    Raises:
        UserError: one cannot be written, or is what another argument names or, in a folder that
            another argument names, anything but an earlier result.
    """
    values = vars(args)
    for name, value in values.items():
        if not isinstance(value, OutputFile | OutputFolder):
            continue
        flag = f"--{name.replace('_', '-')}"
        others = [path for other in values if other != name for path in _paths(values[other])]
        if isinstance(value, OutputFile):
            if _is_plain(value, flag):
                check_folder(real_path(value).absolute().parent, f"{flag} {value}")
            _check_apart(value, flag, others)
            continue
        check_folder(value, f"{flag} {value}")
        if any(same_file(value, other) for other in others):
            raise UserError(f"{flag} {value}: is named as an input as well; name another folder")


def check_output(path: Path, flag: str = "--output") -> None:
    """Make the folder of an output file, so that a long run does not fail at its end.

    Args:
        path: of the file.
        flag: of the command line that named it, for the message.

    Raises:
        UserError: the folder cannot be made or written to, or ``path`` is a folder or a socket, or
            no name of a file.
    """
    if not _is_plain(path, flag):
        return  # a device or a pipe: nothing is made beside it
    folder = real_path(path).parent
    make_parent(real_path(path))
    if not os.access(folder, os.W_OK | os.X_OK):
        named = f"{flag} {path}".strip()
        raise UserError(f"{named}: {folder} cannot be written to; name another folder")


def make_parent(path: Path) -> None:
    """Make the folder that an output goes into.

    Raises:
        UserError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot make this folder ({error.strerror})"
        raise UserError(f"{_short(path.parent)}: {reason}") from error


def check_folder(path: str | Path, flag: str) -> None:
    """Check, before any work, that files can be made in a folder, which need not exist yet.

    Args:
        path: of the folder.
        flag: of the command line that named it, and the name, for the message.

    Raises:
        UserError: they cannot.
    """
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"{flag}: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{flag}: {folder} is not writable")


def real_path(path: Path) -> Path:
    """Where a file is written: where its link leads, if it is one."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file that exists."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


def _is_plain(path: Path, flag: str) -> bool:
    """Whether an output is a regular file, or will be; else it is one to write into."""
    named = f"{flag} {_short(path)}".strip()
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return True
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        reason = getattr(error, "strerror", None) or "no name of a file"
        raise UserError(f"{named}: cannot be written ({reason})") from error
    for wrong, kind in ((stat.S_ISDIR, "folder"), (stat.S_ISSOCK, "socket")):
        if wrong(mode):
            raise UserError(f"{named}: is a {kind}; name a file")
    return stat.S_ISREG(mode)


def _check_apart(output: Path, flag: str, others: list[Path]) -> None:
    if not output.is_file():  # nothing to lose
        return
    for other in others:
        if same_file(output, other):
            raise UserError(f"{flag} {output}: is {other}, which is named as well; name another")
        inside = other.is_dir() and Path(os.path.realpath(other)) in real_path(output).parents
        if inside and not _is_result(output):
            raise UserError(f"{flag} {output}: is a file of {other}; name another")


def _is_result(path: Path) -> bool:
    """Whether a file is one that a command wrote and may write again: by its content."""
    try:
        if path.stat().st_size == 0:
            return True
        if path.suffix in _DRAWN:
            with path.open("rb") as file:
                return file.read(15).lower().startswith(_DRAWN[path.suffix].lower())
        return path.suffix == ".json" and "schema" in json.loads(path.read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _paths(value: object) -> Iterator[Path]:
    """Every path in an argument, or text that may be one."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, str) and "\0" not in value:
        yield Path(value)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _paths(item)


def _short(path: Path) -> str:
    """A path for a message: one line, and not the whole of a name that is far too long."""
    text = " ".join(str(path).split()).replace("\0", "?")
    return text if len(text) <= 200 else f"{text[:100]}…{text[-40:]}"
