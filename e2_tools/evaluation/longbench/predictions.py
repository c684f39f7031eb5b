# SPDX-License-Identifier: Apache-2.0
"""Prediction files: ``<task>.jsonl`` with ``pred``, ``answers``, ``all_classes`` and ``length``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.json_file import parse_json_line

Record = dict[str, Any]


def read_records(path: Path, required: dict[str, type | tuple[type, ...]]) -> list[Record]:
    """Read a JSON lines file whose objects have the given fields.

    Args:
        path: the file.
        required: field -> what type its value has to be of.

    Raises:
        UserError: the file is missing, empty or malformed, or a record lacks a field.
    """
    records = [_checked(record, required, place) for place, record in _objects(path)]
    if not records:
        raise UserError(f"{path}: is empty; put one JSON object a line into it")
    return records


def _objects(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            value = parse_json_line(line, path, number, "mend or remove it")
            yield f"{path}: line {number}", value


def _checked(record: Any, required: dict[str, type | tuple[type, ...]], place: str) -> Record:
    if not isinstance(record, dict):
        raise UserError(f"{place} is no JSON object; mend or remove it")
    for field, kind in required.items():
        if field not in record:
            raise UserError(f"{place} has no {field!r}; add it or remove the line")
        if not isinstance(record[field], kind):
            raise UserError(f"{place} has a {field!r} of the wrong type; mend or remove the line")
    _check_strings(record, place)
    return record


def _check_strings(record: Record, place: str) -> None:
    for field in ("answers", "all_classes"):
        values = record.get(field) or []
        if not all(isinstance(value, str) for value in values):
            raise UserError(f"{place} has a {field!r} that is no list of texts; mend the line")
