# SPDX-License-Identifier: Apache-2.0
"""Read the rows of a Parquet file with pyarrow, which is needed for nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from e2_common.errors import UserError, on_one_line


@dataclass(frozen=True)
class Rows:
    """Consecutive rows.

    Attributes:
        rows: (number from 1, row by column).
        text_bytes: their size in memory.
        share: the fraction of the rows asked for that is read, this batch included.
    """

    rows: list[tuple[int, dict[str, Any]]]
    text_bytes: int
    share: float


class NotUtf8(bytes):
    """A string of a file that is none: Parquet's writers do not check."""


def count_rows(path: str) -> int:
    """Return the number of rows, which the file's footer tells.

    Raises:
        UserError: pyarrow is missing, or the file is not Parquet.
    """
    with _open(path) as file:
        return file.metadata.num_rows


def read_rows(
    path: str, keys: Sequence[str] | None, begin: int, end: int | None, batch_rows: int
) -> Iterator[Rows]:
    """Yield the rows from ``begin`` up to, not including, ``end``; row groups before are skipped.

    Args:
        path: the file.
        keys: the columns to read, or None for all.
        begin: the first row, from 0.
        end: the row after the last, or None for all.
        batch_rows: rows yielded at a time, at most.

    Raises:
        UserError: pyarrow is missing, a column is missing, or the file is damaged.
    """
    with _open(path) as file:
        columns = file.schema_arrow.names
        keys = list(columns if keys is None else keys)
        for key in keys:
            if key not in columns:
                names = ", ".join(map(repr, columns[:8])) or "none"
                raise UserError(f"{path}: no column {key!r}, its columns: {names}; see --json-keys")
        end = file.metadata.num_rows if end is None else end
        groups, start = _groups(file.metadata, begin, end)
        batches = file.iter_batches(batch_rows, row_groups=groups, columns=keys)
        while (batch := _next(batches, path)) is not None:
            first, last = max(begin - start, 0), min(end - start, batch.num_rows)
            if first < last:
                part = batch.slice(first, last - first)
                numbers = range(start + first + 1, start + last + 1)
                rows = list(zip(numbers, _rows_of(part), strict=True))
                yield Rows(
                    rows, part.get_total_buffer_size(), (start + last - begin) / (end - begin)
                )
            start += batch.num_rows


def _rows_of(part: Any) -> list[dict[str, Any]]:
    try:
        return part.to_pylist()
    except UnicodeDecodeError:  # of one row; the others are good
        rows = [part.slice(index, 1) for index in range(part.num_rows)]
        return [dict(zip(row.schema.names, map(_value, row.columns), strict=True)) for row in rows]


def _value(column: Any) -> Any:
    """The one value of a column."""
    try:
        return column[0].as_py()
    except UnicodeDecodeError as error:
        return NotUtf8(error.object)


def _groups(metadata: Any, begin: int, end: int) -> tuple[list[int], int]:
    """Return the row groups that hold some of the rows, and the first row of the first group."""
    groups, start, first = [], 0, 0
    for group in range(metadata.num_row_groups):
        stop = start + metadata.row_group(group).num_rows
        if start < end and stop > begin:
            if not groups:
                first = start
            groups.append(group)
        start = stop
    return groups, first


def _open(path: str) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f"{path}: Parquet needs the package pyarrow (pip install pyarrow)"
        ) from error
    try:
        return pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise _damaged(path, error) from error


def _next(batches: Iterator[Any], path: str) -> Any:
    import pyarrow

    try:
        return next(batches, None)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> UserError:
    return UserError(f"{path}: damaged or not a Parquet file ({on_one_line(error)})")
