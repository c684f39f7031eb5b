# SPDX-License-Identifier: Apache-2.0
"""The records of MRCR's files, and their score.

A record is a conversation that ends with the wish for one of its ``n_needles`` alike texts, with a
given string before it. The generator of these conversations was not published.
"""

import json
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

from e2_common.errors import UserError, brief
from e2_common.files import read_text
from e2_common.json_file import parse_json_line

SCHEMA = "e2-llm/mrcr/1"

FIELDS = {"prompt": str | list, "answer": str, "random_string_to_prepend": str, "n_needles": int}


class Record(NamedTuple):
    """A conversation, and what has to be said next.

    Attributes:
        messages: with ``role`` and ``content``.
        answer: begins with ``start``.
        start: the given string.
    """

    messages: list[dict[str, str]]
    answer: str
    start: str

    @property
    def characters(self) -> int:
        """Of the conversation and the answer."""
        return len(self.answer) + sum(len(message["content"]) for message in self.messages)


def read_records(paths: list[Path]) -> dict[str, list[Record]]:
    """Read MRCR's files, ``.parquet`` as published or the same rows as ``.jsonl``.

    Returns:
        ``2needle`` and so on -> the records, in the files' order.

    Raises:
        UserError: a file is missing or of another form, or pyarrow is.
    """
    found: dict[int, list[Record]] = {}
    for path in paths:
        for number, row in enumerate(_rows(path), 1):
            place = f"--data {path}: record {number}"
            if not isinstance(row, dict):
                raise UserError(f"{place} is no object; name a file of MRCR")
            for field, kind in FIELDS.items():
                if not isinstance(row.get(field), kind):
                    raise UserError(f"{place} has no {field!r} of MRCR; name one of its files")
            found.setdefault(row["n_needles"], []).append(_record(row, place))
    if not found:
        raise UserError("--data: has no records; name files of MRCR")
    return {f"{needles}needle": found[needles] for needles in sorted(found)}


def _rows(path: Path) -> Iterator[Any]:
    if path.suffix != ".parquet":
        for number, line in enumerate(read_text(path, "--data").split("\n"), 1):
            if line.strip():
                yield parse_json_line(line, f"--data {path}", number, "mend it")
        return
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UserError(
            f"--data {path}: reading .parquet needs pyarrow; pip install pyarrow, or give .jsonl"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(16, columns=list(FIELDS)):
                yield from batch.to_pylist()
    except (OSError, ArrowException) as error:
        raise UserError(
            f"--data {path}: cannot be read ({brief(error)}); name a file of MRCR"
        ) from error


def _record(row: dict[str, Any], place: str) -> Record:
    messages = row["prompt"]
    if isinstance(messages, str):
        try:
            messages = json.loads(messages)
        except ValueError:
            messages = None
    if not messages or not all(
        isinstance(each, dict) and {type(each.get("role")), type(each.get("content"))} == {str}
        for each in messages
    ):
        raise UserError(f"{place} has a 'prompt' that is no list of messages; mend it")
    return Record(messages, row["answer"], row["random_string_to_prepend"])


def grade(answer: str, record: Record) -> float:
    """Return MRCR's score: how alike the texts behind the given string are, 0 without that."""
    if not answer.startswith(record.start):
        return 0.0
    said, right = (text.removeprefix(record.start) for text in (answer, record.answer))
    return SequenceMatcher(None, said, right).ratio()
