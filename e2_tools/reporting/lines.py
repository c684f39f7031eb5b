# SPDX-License-Identifier: Apache-2.0
"""Results by window that may stand beside each other: a line is a checkpoint's, a group a table."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from e2_tools.evaluation.conditions import (
    conditions,
    conditions_of_all,
    listed,
    told_scale,
    told_scales,
    told_windows,
)
from e2_tools.evaluation.intervals import told_percent, told_value
from e2_tools.evaluation.result_file import Results
from e2_tools.evaluation.table import by_label
from e2_tools.reporting.checkpoints import Page
from e2_tools.reporting.page import Cell, Table

Row = dict[str, Any]
_TO = "\u00a0…\u00a0"  # an interval stays on one line
Files = list[tuple[Path, Results]]


@dataclass(frozen=True)
class Line:
    """A row of a table by window.

    Attributes:
        shown: its name, unlike all others of the group.
        name: of the checkpoint.
        results: with a row a window.
        sources: numbers of the files.
    """

    shown: str
    name: str
    results: Results
    sources: tuple[int, ...]

    @property
    def rows(self) -> dict[int, Row]:
        """Window in tokens -> its row."""
        return {row["window"]: row for row in self.results["results"]}


@dataclass(frozen=True)
class Group:
    """Lines that were measured alike.

    Attributes:
        lines: of the table.
        apart: in words what sets it apart from other groups of its kind; "" if there are none.
    """

    lines: list[Line]
    apart: str = ""

    @property
    def files(self) -> dict[str, Results]:
        """Shown name -> results, as pictures take them."""
        return {line.shown: line.results for line in self.lines}

    @property
    def windows(self) -> list[int]:
        """All windows of all lines, in tokens, the smallest first."""
        return sorted({window for line in self.lines for window in line.rows})

    def ends(self) -> list[int]:
        """The smallest window, and the largest that most checkpoints have."""
        having = {
            window: len({line.name for line in self.lines if window in line.rows})
            for window in self.windows
        }
        common = [window for window, count in having.items() if count == max(having.values())]
        return list(dict.fromkeys([*self.windows[:1], *common[-1:]]))


def grouped(files: Files, settings: Callable[[Results], Any]) -> list[Files]:
    """Put files together that agree in settings, in the order of the first of each."""
    groups: dict[str, Files] = {}
    for path, results in files:
        key = json.dumps(settings(results), sort_keys=True, default=str)
        groups.setdefault(key, []).append((path, results))
    return list(groups.values())


def told_apart(
    groups: Sequence[Group], settings: Callable[[Results], Results], shown: Collection[str]
) -> list[Group]:
    """Return groups that say in which settings they differ from each other.

    Args:
        groups: of one kind.
        settings: what was the same for the lines of a group.
        shown: settings that :func:`conditions` tells anyway.
    """
    each = [settings(group.lines[0].results) for group in groups]
    found = []
    for group, own in zip(groups, each, strict=True):
        told = [
            _told_setting(name, value)
            for name, value in own.items()
            if name not in shown and any(other.get(name) != value for other in each)
        ]
        found.append(replace(group, apart=", ".join(told)))
    return found


def _told_setting(name: str, value: Any) -> str:
    """A setting in a few words; of data, which may have the name of others, a part of its sum."""
    if isinstance(value, dict):
        named = str(value.get("path") or value.get("file") or "")
        digest = str(value.get("sha256") or "")[:8]
        value = value.get("line") or " ".join(filter(None, (Path(named).name, digest))) or value
        name = "lines" if isinstance(value, list) else name
    if isinstance(value, list):
        value = listed([f"{each:g}" if isinstance(each, float) else str(each) for each in value])
    plain = {True: "yes", False: "no", None: "unknown"}
    return f"{name} {plain.get(value, value) if isinstance(value, bool | None) else value}"


def told_conditions(group: Group, *, less: Collection[str] = ()) -> str:
    """Return in words how a group was measured, and what sets it apart from others.

    Args:
        group: the group.
        less: settings that are left out.
    """
    files = [{**each, **dict.fromkeys(less)} for each in group.files.values()]
    return ", ".join(filter(None, (conditions_of_all(files), group.apart)))


def lines_of(page: Page, files: Files) -> list[Line]:
    """Return a line a file; files of one name are told apart by their paths."""
    named = by_label([(Path(page.file(path)), results) for path, results in files])
    return [
        Line(shown, results["label"], results, (page.number(path),))
        for (shown, results), (path, _) in zip(named.items(), files, strict=True)
    ]


def table(
    page: Page,
    group: Group,
    cell: Callable[[Row], Cell],
    caption: str = "",
    more: tuple[str, Callable[[Line], Cell]] | None = None,
) -> Table:
    """Return a table: a row a line, a column a window.

    Args:
        page: of the table.
        group: of the lines.
        cell: makes a cell of a window's row.
        caption: above.
        more: the head of a last column, and what it says of a line.
    """
    windows = group.windows
    rows = [
        [
            page.head(line.shown, sources=line.sources),
            *(cell(line.rows[w]) if w in line.rows else Cell("-") for w in windows),
            *([more[1](line)] if more else []),
        ]
        for line in group.lines
    ]
    head = ["window", *(f"{window:,}" for window in windows), *([more[0]] if more else [])]
    return Table(head, rows, caption)


def value_cell(row: Row, metric: str, counted: str, unit: str) -> Cell:
    """Return a value with its interval, its scale and what it is over.

    Args:
        row: of a window.
        metric: key of the value.
        counted: key of the number of what it is over.
        unit: what is counted.
    """
    value = row.get(metric)
    if value is None:
        return Cell("-", (told_scale(row["scale"]),))
    small = [told_interval(row.get(f"{metric}_interval"), told_value)]
    if row.get(f"{metric}_std") is not None:
        small.append(f"± {told_value(row[f'{metric}_std'])} over {row['runs']} seeds")
    count = f"{row[counted]:,} {unit}" if row.get(counted) is not None else ""
    small.append(", ".join(filter(None, (told_scale(row["scale"]), count))))
    return Cell(told_value(value), tuple(filter(None, small)))


def share_cell(row: Row, decimals: int = 1, marks: tuple[float, ...] = (0.0, 100.0)) -> Cell:
    """Return a share of answers in percent with its interval, its scale and how many were asked."""
    told = told_interval(row["accuracy_interval"], lambda share: told_percent(share, 0))
    small = (told, f"{told_scale(row['scale'])}, {row['trials']:,} asked")
    return Cell(f"{told_percent(row['accuracy'], decimals, marks)} %", small)


def told_interval(ends: Any, told: Callable[[float], str]) -> str:
    """Return an interval in words; "" if there is none."""
    return f"{told(ends[0])}{_TO}{told(ends[1])}" if ends else ""


def differ(settings: list[str]) -> str:
    """Return the note on files that differ in settings that make them incomparable."""
    told = ", ".join(settings)
    return f"These files differ in {told}: what compares has a picture and a table of its own."


def conditions_table(page: Page, files: Files, caption: str) -> Table:
    """Return a row a file: what of its model and settings its numbers depend on."""
    told = [_conditions(results) for _, results in files]
    names = list(dict.fromkeys(name for each in told for name in each))
    rows: list[list[str | Cell]] = [
        [
            page.head(results["label"], page.file(path), sources=(page.number(path),)),
            *(each.get(name, "-") for name in names),
        ]
        for (path, results), each in zip(files, told, strict=True)
    ]
    return Table(["checkpoint", *names], rows, caption)


def _conditions(results: Results) -> dict[str, str]:
    base = results.get("base_window")
    found = {
        "windows": told_windows(results),
        "scale": told_scales(results),
        "L": f"{base:,}" if base is not None else "",
        "frequencies": results.get("frequencies") or "",
        "dtype": results.get("dtype") or "",
    }
    return {name: value for name, value in found.items() if value} | conditions(results)
