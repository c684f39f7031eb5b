# SPDX-License-Identifier: Apache-2.0
"""The first screen of a report: each checkpoint in a column, what it keeps and what it gains."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from e2_tools.evaluation.conditions import conditions_of_all
from e2_tools.evaluation.short import read_short
from e2_tools.reporting import longbench, missing, perplexities, retrieval, short_tasks
from e2_tools.reporting.checkpoints import Page, doubts, model_of, told_training
from e2_tools.reporting.lines import Group, Line, Row
from e2_tools.reporting.page import Cell, Section, Table

NOT_MEASURED = "not measured"


class Missing(NamedTuple):
    """What a checkpoint was not asked: in words, and how to ask it."""

    what: str
    command: str


@dataclass
class _Rows:
    page: Page
    rows: list[list[str | Cell]]
    missing: list[Missing]

    @property
    def windows(self) -> list[int]:
        """All windows that anything was measured at."""
        kinds = (retrieval.RULER, *retrieval.TESTS)
        groups = [*perplexities.groups(self.page)]
        groups += [group for kind in kinds for group in retrieval.groups(self.page, kind)]
        return sorted({window for group in groups for window in group.windows})


def section(page: Page) -> Section:
    """Return the section."""
    made = _Rows(page, [], [])
    # The four questions of a reviewer first, what else was measured behind them.
    _effective_windows(made)
    _perplexities(made)
    first, *others = retrieval.TESTS
    asked = [kind for kind in (first, *others) if retrieval.groups(page, kind)] or [first]
    _retrieval(made, asked[0])
    _short(made)
    _key_tokens(made)
    for kind in asked[1:]:
        _retrieval(made, kind)
    _longbench(made)
    about = "Below a number: its 95 % interval, the scale g, and over how many it is."
    if len(page.names) > 1:
        about += f" A sign: the change from {page.names[0]}."
    heads = [page.head(name, told_training(page, name)) for name in page.names]
    commands = [*made.missing]
    if len(page.names) == 1:
        command = missing.whole("BASE", model_of(page, page.names[0]), page.run.folder)
        commands.insert(0, Missing("The model before, for a column beside this:", command))
    return Section(
        "Summary",
        about,
        tables=[Table(["", *heads], made.rows)] if page.names else [],
        notes=doubts(page),
        commands=[(each.what, each.command) for each in commands],
    )


def _effective_windows(made: _Rows) -> None:
    page = made.page
    found = retrieval.groups(page, retrieval.RULER)
    for group in found:
        small = (retrieval.told_tasks(group), conditions_of_all(list(group.files.values())))

        def cell(name: str, group: Group = group) -> Cell:
            lines = [line for line in group.lines if line.name == name]
            cells = [(line, retrieval.effective_cell(line)) for line in lines]
            return _only(
                [(line, replace(each, small=(*each.small, _scales(line)))) for line, each in cells]
            )

        _row(made, Cell("Effective window (RULER)", small), cell)
        _tell_missing(made, group, "RULER", "ruler")
    if not found:
        _nothing(made, Cell("Effective window (RULER)"), "RULER", missing.ruler)


def _perplexities(made: _Rows) -> None:
    page = made.page
    found = perplexities.groups(page)
    for group in found:
        told = conditions_of_all([{**r, "key_tokens": None} for r in group.files.values()])
        for window in group.ends():
            _at(
                made, group, window, "Perplexity", told, perplexities.cell, perplexities.told_change
            )
        _tell_missing(made, group, "Perplexity", "perplexity")
    if not found:
        _nothing(made, Cell("Perplexity"), "Perplexity", missing.perplexity)


def _key_tokens(made: _Rows) -> None:
    for group in perplexities.groups(made.page):
        for keys in perplexities.keyed(group):
            told = conditions_of_all(list(keys.files.values()))
            for window in keys.ends()[-1:]:
                _at(made, keys, window, "Perplexity of key tokens", told, perplexities.key_cell)


def _retrieval(made: _Rows, kind: str) -> None:
    title, _ = retrieval.TESTS[kind]
    found = retrieval.groups(made.page, kind)
    for group in found:
        told = conditions_of_all(list(group.files.values()))
        depths = f"{len(group.lines[0].results['depths'])} depths"
        for window in group.ends()[-1:]:
            _at(made, group, window, title, f"{told}, {depths}", retrieval.share_cell)
        _tell_missing(made, group, title, kind.rpartition("/")[2])
    if not found:
        _nothing(made, Cell("Retrieval"), "Retrieval", missing.retrieval)


def _longbench(made: _Rows) -> None:
    page = made.page
    for key, summaries in longbench.groups(page).items():
        if not set.intersection(*(set(each.scores) for each in summaries)):
            continue
        mean, tasks = longbench.common_tasks(summaries)

        def cell(
            name: str, summaries: list = summaries, mean: str = mean, tasks: tuple = tasks
        ) -> Cell:
            cells = [
                replace(longbench.mean_cell(each, mean, tasks), sources=(page.number(each.path),))
                for each in summaries
                if each.label == name
            ]
            return cells[0] if len(cells) == 1 else _several(len(cells))

        shown = f"mean {mean}" if mean in ("EN", "ZH", "All") else mean
        _row(
            made,
            Cell(longbench.title(key), tuple(filter(None, (shown, longbench.told_asked(key))))),
            cell,
        )


def _short(made: _Rows) -> None:
    page = made.page
    found = [(path, read_short(path, content)) for path, content in page.of(short_tasks.KIND)]
    for path, content in found:

        def cell(name: str, path=path, content=content) -> Cell:
            told = short_tasks.mean_cell(content, name)
            return replace(told, sources=(page.number(path),)) if told else _several(0)

        small = (f"mean, {short_tasks.told_questions(content)}", short_tasks.conditions(content))
        _row(made, Cell("Short tasks", small), cell)
    if not found:
        models = [model_of(page, name) for name in page.names[:2]]
        before, after = models if len(models) == 2 else (None, *models, None)[:2]
        _row(made, Cell("Short tasks"), lambda name: _several(0))
        made.missing.append(Missing("Short tasks:", missing.short(before, after, page.run.folder)))


def _at(
    made: _Rows,
    group: Group,
    window: int,
    title: str,
    told: str,
    show: Callable[[Row], Cell],
    change: Callable[[Row, Row], str] | None = None,
) -> None:
    """Add a row: a group's values at a window, and how they changed against the first column."""
    first = group.at(made.page.names[0], window)

    def cell(name: str) -> Cell:
        found = group.at(name, window)
        cells = [(line, show(row)) for line, row in found]
        if change and len(found) == len(first) == 1 and name != made.page.names[0]:
            (line, shown), row = cells[0], found[0][1]
            cells = [(line, replace(shown, small=(change(first[0][1], row), *shown.small)))]
        return _only(cells)

    _row(made, Cell(f"{title}, window {window:,}", (told,)), cell)


def _row(made: _Rows, title: Cell, cell: Callable[[str], Cell]) -> None:
    made.rows.append([title, *(cell(name) for name in made.page.names)])


def _only(cells: list[tuple[Line, Cell]]) -> Cell:
    """The one cell of a checkpoint, with its file."""
    if len(cells) != 1:
        return _several(len(cells))
    ((line, cell),) = cells
    return replace(cell, sources=line.sources)


def _several(count: int) -> Cell:
    return Cell(f"{count} results", ("see below",)) if count else Cell("", (NOT_MEASURED,))


def _scales(line: Line) -> str:
    rows = sorted(line.rows.items())
    told = [f"{row['scale']:g}" if row["scale"] is not None else "own" for _, row in rows]
    return f"g = {', '.join(dict.fromkeys(told))}"


def _tell_missing(made: _Rows, group: Group, what: str, test: str) -> None:
    """Say how to measure a test of the checkpoints that were not asked it, as the others were."""
    page = made.page
    commands = filter(None, (missing.command_of(line.results) for line in group.lines))
    made_by = next(commands, None)
    having = {line.name for line in group.lines}
    for name in page.names:
        if name not in having and made_by:
            output = missing.output_of(page.run.folder, test, name)
            command = missing.like(made_by, model_of(page, name), name, output)
            made.missing.append(Missing(f"{what} of {name}:", command))


def _nothing(made: _Rows, title: Cell, what: str, command: Callable[..., str]) -> None:
    """Add a row for what no checkpoint was asked."""
    page = made.page
    _row(made, title, lambda name: _several(0))
    for name in page.names:
        told = command(model_of(page, name), name, made.windows, page.run.folder)
        made.missing.append(Missing(f"{what} of {name}:", told))
