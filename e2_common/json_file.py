# SPDX-License-Identifier: Apache-2.0
"""JSON files of the user: read with clear errors, written in one layout."""

import json
import math
from pathlib import Path
from typing import Any

from e2_common.errors import UserError, brief


def read_json_object(
    path: Path, mend: str = "mend or replace it", what: str = "JSON"
) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: of the file.
        mend: what to do about a file that is none, for the messages.
        what: the file ought to be, for the message; of one that begins well, ``whole JSON``.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {mend}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not {what} ({brief(error)}); {mend}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: is not a JSON object; {mend}")
    return content


def parse_json_line(line: str | bytes, name: object, number: int, mend: str = "") -> Any:
    """Return the value of a line of JSON lines.

    Args:
        line: one of the file's.
        name: of the file, for the message.
        number: of the line, from 1.
        mend: what to do about a line that is no JSON, for the message.

    Raises:
        UserError: it is no JSON.
    """
    try:
        return json.loads(line)
    except ValueError as error:
        told = f"; {mend}" if mend else ""
        raise UserError(f"{name}: line {number} is not JSON ({brief(error)}){told}") from error


def write_json(path: Path, content: Any, *, indent: int = 2) -> None:
    """Write a value as transformers lays JSON out, in UTF-8.

    For paths from :func:`e2_common.files.atomic_file` and in folders from ``atomic_directory``.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, which true and false are not."""
    try:
        return (
            isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
        )
    except OverflowError:  # a whole number of 400 digits
        return False
