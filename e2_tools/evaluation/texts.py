# SPDX-License-Identifier: Apache-2.0
"""Text files that a flag names, and texts of errors; imports nothing heavy."""

from pathlib import Path

from e2_common.errors import UserError


def read_text(path: Path, flag: str) -> str:
    """Read a file of UTF-8 text.

    Args:
        path: the file.
        flag: that named it, for the error.

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


def brief(error: BaseException) -> str:
    """Return the first line of an error, for use inside a one-line message."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
