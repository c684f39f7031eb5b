# SPDX-License-Identifier: Apache-2.0
"""What of a ``predict`` is done: a file that grows by batches, and the settings it was made with.

A task's answers are appended to ``<task>.jsonl.part`` as they come, in any order, and moved to
``<task>.jsonl`` in the data's order when all are there. ``score`` thus never sees half a task.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.files import atomic_file, sha256_of, writing
from e2_common.json_file import read_json_object, write_json
from e2_tools.evaluation.longbench.predictions import Record, read_records
from e2_tools.evaluation.result_file import LATER

SCHEMA = "e2-llm/longbench-predict/1"


# What a folder may have more of after another run, task by task.
_BY_TASK = ("data", "records")


def check_settings(
    folder: Path,
    settings: dict[str, Any],
    data: dict[str, Path],
    records: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Compare a run to come with the predictions that its folder may already hold.

    Args:
        folder: of the predictions, made or not.
        settings: of the run to come.
        data: task -> its data file.
        records: task -> whose its records are, an ``Origin`` as a dictionary.

    Returns:
        what :func:`write_settings` is to write.

    Raises:
        UserError: the predictions there were made with other settings or data.
    """
    path = folder / "settings.json"
    new = {"schema": SCHEMA, **settings, "data": {n: sha256_of(p) for n, p in data.items()}}
    new["records"] = records
    begun = folder.is_dir() and any(folder.glob("*.jsonl*"))
    if begun and not path.exists():
        raise UserError(
            f"{folder}: has predictions but no settings.json to go on with; name another --output"
        )
    if begun:
        old = _read(path)
        for name in new.keys() - {*_BY_TASK, *(set(LATER) - old.keys()), "provenance"}:
            if old.get(name) != new[name]:
                raise UserError(
                    f"{path}: {name} was {old.get(name)!r} and now is {new[name]!r}; use the same "
                    "or name another --output"
                )
        for task, digest in new["data"].items():
            if old["data"].get(task, digest) != digest:
                raise UserError(f"{data[task]}: has changed since {path}; name another --output")
        for name in _BY_TASK:
            new[name] = old.get(name, {}) | new[name]
    return new


def read_settings(folder: Path) -> dict[str, Any] | None:
    """Return what ``predict`` recorded about the predictions in a folder, None if others made them.

    Raises:
        UserError: its ``settings.json`` is damaged.
    """
    path = folder / "settings.json"
    return _read(path) if path.exists() else None


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write ``settings.json``, and make its folder.

    Raises:
        UserError: it cannot be written.
    """
    path = folder / "settings.json"
    with atomic_file(path) as temporary:
        write_json(temporary, settings)


class TaskFile:
    """The predictions of one task.

    Attributes:
        total: how many records the task has.
        left: the numbers, from 0, of the records that were not answered when it was opened.

    Raises:
        UserError: a file of a run before is damaged or has another number of records.
    """

    def __init__(self, folder: Path, task: str, total: int) -> None:
        self.path = folder / f"{task}.jsonl"
        self.part = folder / f"{task}.jsonl.part"
        self.total = total
        if self.path.exists():
            found = len(read_records(self.path, {"pred": str}))
            if found != total:
                raise UserError(
                    f"{self.path}: has {found} predictions, the data {total} records; remove it"
                )
            self.left: list[int] = []
            return
        done: set[int] = set()
        if self.part.exists():
            self._drop_torn_line()
            done = {record["index"] for record in self._records()}
        self.left = [number for number in range(total) if number not in done]

    def add(self, records: Iterable[Record]) -> None:
        """Append predictions, each with its number as ``index``, and have them on disk."""
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        with writing(self.part), self.part.open("a", encoding="utf-8") as file:
            file.write("".join(lines))
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> Path:
        """Move complete predictions to their place, sorted, and return it."""
        if not self.path.exists():
            records = {record.pop("index"): record for record in self._records()}
            with atomic_file(self.path) as temporary:
                temporary.write_text(
                    "".join(
                        json.dumps(records[number], ensure_ascii=False) + "\n"
                        for number in range(self.total)
                    ),
                    encoding="utf-8",
                )
        self.part.unlink(missing_ok=True)
        return self.path

    def _records(self) -> list[Record]:
        if not self.part.stat().st_size:
            return []
        return read_records(self.part, {"pred": str, "index": int})

    def _drop_torn_line(self) -> None:
        """A killed run may have left the beginning of a line."""
        with self.part.open("r+b") as file:
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)


def _read(path: Path) -> dict[str, Any]:
    settings = read_json_object(path, "name another --output")
    if not isinstance(settings.get("data"), dict):
        raise UserError(f"{path}: was not made by predict; name another --output")
    return settings
