# SPDX-License-Identifier: Apache-2.0
"""Files of the user: outputs that are either whole or absent, texts, digests."""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from e2_common.errors import UserError
from e2_common.outputs import check_output, make_parent, real_path

# What a write fails with and a read does not, input and output errors (EIO) excepted.
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
_CHUNK = 1 << 20
_LONGEST_NAME = 255  # bytes, on every common file system


@contextlib.contextmanager
def atomic_file(path: str | Path, flag: str = "") -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if the body succeeds.

    On any exception, an interrupt included, the temporary file is removed and whatever stood at
    ``path`` stays as it was. A link is followed, and a file that is replaced leaves its mode to the
    new one. A device or a pipe is no file to replace: the content is written into it at the end.

    An ``OSError`` of the body is the output's fault, and becomes a UserError, if it names the
    temporary path, or names no file and says what only a disk that is written to says: full, over
    quota, read-only, broken. So a body that reads or writes other files as well has to report their
    errors itself where these name no file; an error that names another file passes unchanged.

    Args:
        path: of the output.
        flag: of the command line that named it, for the message.

    Raises:
        UserError: the file cannot be written, or its folder does not exist and cannot be made.
    """
    path = Path(path)
    check_output(path, flag)
    through = path.exists() and not path.is_file()
    target = path if through else real_path(path)
    temporary = _beside(Path(tempfile.gettempdir()) / "output" if through else target)
    try:
        with _blaming(path, flag, temporary):
            yield temporary
            if through:
                with writing(path, flag), temporary.open("rb") as data, path.open("wb") as stream:
                    shutil.copyfileobj(data, stream)
                return
            if target.exists():
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: str | Path, flag: str = "") -> Iterator[Path]:
    """Yield a fresh temporary folder beside ``path``; rename it to ``path`` if the body succeeds.

    Errors are told apart as in :func:`atomic_file`; every path in the temporary folder is its own.

    Args:
        path: of the output.
        flag: of the command line that named it, for the message.

    Raises:
        UserError: ``path`` exists already and is not an empty folder, or cannot be written.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: already exists; remove it or name another folder")
    make_parent(path)
    temporary = _beside(path)
    try:
        with _blaming(path, flag, temporary):
            temporary.mkdir()
            yield temporary
            if path.exists():
                path.rmdir()
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def writing(path: str | Path, flag: str = "") -> Iterator[None]:
    """Report any ``OSError`` of the body as ``path``'s; for bodies that do nothing but write it.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise _not_written(path, flag, error) from error


def read_text(path: Path, flag: str) -> str:
    """Read a file of UTF-8 text.

    Args:
        path: the file.
        flag: of the command line that named it, for the message.

    Raises:
        UserError: it cannot be read, or is no text.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(
            f"{flag} {path}: cannot be read ({error.strerror}); name a text file"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{flag} {path}: is not UTF-8 text; name another file") from error


def sha256_of(path: Path, progress: Callable[[int], object] = lambda size: None) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Args:
        path: of the file.
        progress: called with the bytes of each megabyte read.

    Raises:
        UserError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                progress(len(chunk))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def _beside(path: Path) -> Path:
    """A hidden name in the same folder, so that renaming copies nothing; one a process."""
    end = f".{os.getpid()}.tmp"
    name = os.fsdecode(os.fsencode(path.name)[: _LONGEST_NAME - 1 - len(end)])
    return path.with_name(f".{name}{end}")


@contextlib.contextmanager
def _blaming(path: Path, flag: str, temporary: Path) -> Iterator[None]:
    """Turn an ``OSError`` that is the output's fault into a UserError."""
    try:
        yield
    except OSError as error:
        named = [name for name in (error.filename, error.filename2) if name is not None]
        if named:
            ours = any(_is_one_of(name, path, temporary) for name in named)
        else:
            ours = error.errno in _OF_THE_DISK
        if not ours:
            raise
        raise _not_written(path, flag, error) from error


def _is_one_of(name: object, path: Path, temporary: Path) -> bool:
    """Whether an error names the output, its temporary stand-in or something within that."""
    if not isinstance(name, str | bytes | os.PathLike):  # the number of an open file
        return False
    found, temporary = Path(os.path.abspath(os.fsdecode(name))), temporary.absolute()
    return found in (path.absolute(), temporary) or temporary in found.parents


def _not_written(path: str | Path, flag: str, error: OSError) -> UserError:
    named = f"{flag} {path}" if flag else str(path)
    return UserError(f"{named}: cannot be written ({error.strerror or error})")
