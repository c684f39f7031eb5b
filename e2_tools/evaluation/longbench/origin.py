# SPDX-License-Identifier: Apache-2.0
"""Whose records were asked: LongBench's, some of them, others, or home-made ones.

Every prediction carries its record's answers, classes and length. A SHA-256 of these tells
LongBench's sets from all others, in the data and in predictions that anybody made. ``tasks.json``
has it for the 21 sets and for LongBench-E's 13.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from e2_tools.evaluation.longbench.predictions import Record
from e2_tools.evaluation.longbench.tasks import Task

MARK = "made_by"  # the field by which a home-made record names its maker
_KEYS = ("answers", "all_classes", "length")


class Kind(NamedTuple):
    """Whose records: how pages call them, and what numbers of theirs are worth."""

    title: str
    about: str


# From the best to the worst: a folder is called by the worst of its tasks.
KINDS = {
    "longbench": Kind("LongBench", "These are LongBench's own records, each once."),
    "part": Kind(
        "A part of LongBench",
        "Records of LongBench are missing: these are not its scores.",
    ),
    "unknown": Kind(
        "Tasks in LongBench's format",
        "Whose records these are was not written down: score the predictions again.",
    ),
    "other": Kind(
        "Tasks in LongBench's format",
        "These are not LongBench's sets of records, by count or SHA-256: scores compare with each "
        "other, not with its own.",
    ),
    "made": Kind(
        "Home-made tasks in LongBench's format",
        "They were made from texts of one's own: scores compare models and windows with each "
        "other, not with LongBench's.",
    ),
}


class Origin(NamedTuple):
    """Where the records of one task are from.

    Attributes:
        kind: a key of :data:`KINDS`.
        records: how many there are.
        of: how many there should be: LongBench's, or those of the data that predict read.
        repeated: how many of them are one more of another.
        made_by: what home-made records name.
    """

    kind: str
    records: int
    of: int
    repeated: int = 0
    made_by: str | None = None

    @property
    def told(self) -> str:
        """Records of how many, for a table."""
        return f"{self.records} of {self.of}"


def origin_of(
    task: Task, records: list[Record], *, longbench_e: bool = False, data: Any = None
) -> Origin:
    """Tell whose the records of a task are.

    Args:
        task: of the records.
        records: of its data or predictions; the answers, classes and lengths are looked at.
        longbench_e: compare with LongBench-E's set.
        data: for predictions, what this function said of the data, as a dictionary; they may be
            fewer. None if it is not known.
    """
    own = task.records_e if longbench_e else task.records
    keys = sorted(json.dumps([record.get(key) for key in _KEYS]) for record in records)
    digest = hashlib.sha256("\n".join(keys).encode()).hexdigest()
    data = Origin(**data) if isinstance(data, dict) and data.keys() == {*Origin._fields} else None
    made_by = next((str(r[MARK]) for r in records if r.get(MARK)), data and data.made_by)
    count = len(records)
    if made_by:
        of = data.of if data else count
        return Origin("made", count, of, max(0, count - of), made_by)
    if own and digest == own.sha256:
        return Origin("longbench", count, own.count)
    if data and data.kind == "longbench" and count < data.of:
        return Origin("part", count, data.of)
    if data:
        return Origin("other", count, data.of, max(0, count - data.of))
    # Of a set that nobody knows, only whole lines tell: two questions may have one answer.
    lines = {json.dumps(record) for record in records}
    return Origin("other", count, own.count if own else count, count - len(lines))


def worst(kinds: Iterable[str]) -> str:
    """Return what a folder is called whose tasks are of these kinds, keys of :data:`KINDS`."""
    return max(kinds, key=list(KINDS).index)
