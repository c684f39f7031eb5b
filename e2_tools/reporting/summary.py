# SPDX-License-Identifier: Apache-2.0
"""The first screen of a report: each checkpoint in a column, what it keeps and what it gains."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from e2_tools.evaluation.longbench.tasks import AVERAGES
from e2_tools.evaluation.short import read_short
from e2_tools.reporting import longbench, missing, perplexities, retrieval, short_tasks
from e2_tools.reporting.checkpoints import Page, all_results, doubts, model_of, told_training
from e2_tools.reporting.lines import Group, Line, Row, told_conditions
from e2_tools.reporting.page import Cell, Section, Table

NOT_MEASURED = Cell("", ("not measured",))


@dataclass
class _Screen:
    """The rows of the table as they come, and the commands of what they lack."""

    page: Page
    rows: list[list[str | Cell]] = field(default_factory=list)
    commands: list[tuple[str, str]] = field(default_factory=list)
    outputs: list[Path] = field(default_factory=list)

    def add(self, title: str, small: tuple[str, ...], cells: dict[str, list[Cell]]) -> None:
        """Add a row: of each checkpoint the one cell, or that there is none, or are several."""
        row: list[str | Cell] = [Cell(title, tuple(filter(None, small)))]
        for name in self.page.names:
            found = cells.get(name, [])
            several = Cell(f"{len(found)} results", ("see below",))
            row.append(found[0] if len(found) == 1 else several if found else NOT_MEASURED)
        self.rows.append(row)

    def miss(self, what: str, command: str) -> None:
        """Say how to measure something."""
        self.commands.append((f"{what}:", command))

    def output(self, test: str, name: str, suffix: str = ".json") -> Path:
        """Return what a command may write: no file that is there, or that another one writes."""
        folder = self.page.run.folder
        self.outputs.append(missing.output_of(folder, test, name, suffix, taken=self.outputs))
        return self.outputs[-1]

    def target(self, name: str) -> missing.Target:
        """Return a checkpoint as the target of a command."""
        own = (each.content for each in all_results(self.page.run) if each.content["label"] == name)
        served = next(filter(lambda flags: flags is not None, map(missing.served_by, own)), None)
        return missing.Target(model_of(self.page, name), name, served)


def section(page: Page) -> Section:
    """Return the section."""
    screen = _Screen(page)
    before, *others = page.names
    if not others:
        command = missing.whole("BASE", model_of(page, before), page.run.folder)
        screen.miss("The model before, for a column beside this", command)
    # The four questions of a reviewer first, what else was measured behind them.
    _effective_windows(screen)
    _perplexities(screen)
    asked = [kind for kind in retrieval.TESTS if retrieval.groups(page, kind)]
    _retrieval(screen, asked[:1])
    _short(screen)
    _key_tokens(screen)
    _retrieval(screen, asked[1:], more=True)
    _longbench(screen)
    about = "Below a number: its 95 % interval, the scale g, and over how many it is."
    if others:
        about += f" A sign: the change from {before}."
    heads = [page.head(name, told_training(page, name)) for name in page.names]
    return Section(
        "Summary",
        about,
        tables=[Table(["", *heads], screen.rows)],
        notes=doubts(page),
        commands=screen.commands,
    )


def _effective_windows(screen: _Screen) -> None:
    title = "Effective window (RULER)"
    found = retrieval.groups(screen.page, retrieval.RULER)
    for group in found:
        small = (retrieval.told_tasks(group), told_conditions(group))
        cells = _by_name(group.lines, lambda line: retrieval.effective_cell(line))
        screen.add(title, small, cells)
        _missing_in(screen, group, "RULER", "ruler")
    if not found:
        _nothing(screen, title, "RULER", "ruler", missing.ruler)


def _perplexities(screen: _Screen) -> None:
    title = "Perplexity"
    found = perplexities.groups(screen.page)
    for group in found:
        told = told_conditions(group, less=("key_tokens",))
        for window in group.ends():
            change = perplexities.told_change
            _at(screen, group, window, title, told, perplexities.cell, change)
        _missing_in(screen, group, title, "perplexity")
    if not found:
        _nothing(screen, title, title, "perplexity", missing.perplexity)


def _key_tokens(screen: _Screen) -> None:
    for group in perplexities.groups(screen.page):
        for keys in perplexities.keyed(group):
            for window in keys.ends()[-1:]:
                title = "Perplexity of key tokens"
                _at(screen, keys, window, title, told_conditions(keys), perplexities.key_cell)


def _retrieval(screen: _Screen, kinds: list[str], *, more: bool = False) -> None:
    for kind in kinds:
        title, _ = retrieval.TESTS[kind]
        for group in retrieval.groups(screen.page, kind):
            told = f"{told_conditions(group)}, {retrieval.told_asked(group)}"
            for window in group.ends()[-1:]:
                _at(screen, group, window, title, told, retrieval.share_cell)
            _missing_in(screen, group, title, kind.rpartition("/")[2])
    if not kinds and not more:
        _nothing(screen, "Retrieval", "Retrieval", "needle", missing.needle)


def _longbench(screen: _Screen) -> None:
    page = screen.page
    for key, summaries in longbench.groups(page).items():
        if not set.intersection(*(set(each.scores) for each in summaries)):
            continue
        mean, tasks = longbench.common_tasks(summaries)
        cells: dict[str, list[Cell]] = {}
        for each in summaries:
            cell = longbench.mean_cell(each, mean, tasks)
            cells.setdefault(each.label, []).append(
                replace(cell, sources=(page.number(each.path),))
            )
        told = f"mean {mean}" if mean in AVERAGES else mean
        screen.add(longbench.title(key), (told, longbench.told_asked(key)), cells)
        made_by = next(
            filter(None, (longbench.predicted_by(page, each) for each in summaries)), None
        )
        for name in page.names:
            if name not in cells and made_by:
                output = screen.output("longbench", name, "")
                command = missing.longbench(made_by, screen.target(name), output)
                screen.miss(f"{longbench.title(key)} of {name}", command)


def _short(screen: _Screen) -> None:
    page, title = screen.page, "Short tasks"
    having = set()
    for path, content in page.of(short_tasks.KIND):
        whole = read_short(path, content)
        cells = {}
        for name in page.names:
            if cell := short_tasks.mean_cell(whole, name):
                cells[name] = [replace(cell, sources=(page.number(path),))]
        told = f"mean, {short_tasks.told_questions(whole)}"
        screen.add(title, (told, short_tasks.conditions(whole)), cells)
        having |= cells.keys()
    if not having:
        screen.add(title, (), {})
    before, *others = page.names
    for name in others or [before]:
        if name not in having:
            first = model_of(page, before) if others else None
            output = screen.output("short", name, "")
            command = missing.short(first, model_of(page, name), output)
            screen.miss(f"Short tasks of {name}", command)


def _at(
    screen: _Screen,
    group: Group,
    window: int,
    title: str,
    told: str,
    show: Callable[[Row], Cell],
    change: Callable[[Row, Row], str] | None = None,
) -> None:
    """Add a row: a group's values at a window, and how they changed from the first column's."""
    lines = [line for line in group.lines if window in line.rows]
    first = [line for line in lines if line.name == screen.page.names[0]]

    def cell(line: Line) -> Cell:
        shown = show(line.rows[window])
        if change and len(first) == 1 and line.name != first[0].name:
            told = change(first[0].rows[window], line.rows[window])
            shown = replace(shown, small=(told, *shown.small))
        return shown

    screen.add(f"{title}, window {window:,}", (told,), _by_name(lines, cell))
    others = [line for line in lines if missing.commands_of(line.results)]
    without = [line for line in group.lines if line.name not in {each.name for each in lines}]
    for line in without if others else []:
        windows = sorted({*line.rows, *others[0].rows})
        # With a larger window the second perplexity is over other tokens: that file begins anew.
        resume = "full_context_from" not in line.results or windows[-1] in line.rows
        command = missing.like(
            missing.commands_of(others[0].results),
            screen.target(line.name),
            all_results(screen.page.run)[line.sources[0] - 1].path,
            windows=windows,
            resume=resume,
        )
        screen.miss(f"{title} of {line.shown}, window {window:,}", command)


def _by_name(lines: list[Line], cell: Callable[[Line], Cell]) -> dict[str, list[Cell]]:
    """The cells of each checkpoint, with their files."""
    cells: dict[str, list[Cell]] = {}
    for line in lines:
        cells.setdefault(line.name, []).append(replace(cell(line), sources=line.sources))
    return cells


def _missing_in(screen: _Screen, group: Group, what: str, test: str) -> None:
    """Say how to measure a test of the checkpoints that were not asked it, as the others were."""
    page = screen.page
    made_by = next(filter(None, (missing.commands_of(line.results) for line in group.lines)), None)
    having = {line.name for line in group.lines}
    for name in page.names:
        if name not in having and made_by:
            output = screen.output(test, name)
            screen.miss(f"{what} of {name}", missing.like(made_by, screen.target(name), output))


def _nothing(
    screen: _Screen, title: str, what: str, test: str, command: Callable[..., str]
) -> None:
    """Add a row for what no checkpoint was asked."""
    page = screen.page
    screen.add(title, (), {})
    for name in page.names:
        told = command(screen.target(name), _windows(page), screen.output(test, name))
        screen.miss(f"{what} of {name}", told)


def _windows(page: Page) -> list[int]:
    """All windows that anything was measured at, in tokens."""
    groups = [*perplexities.groups(page)]
    for kind in (retrieval.RULER, *retrieval.TESTS):
        groups += retrieval.groups(page, kind)
    return sorted({window for group in groups for window in group.windows})
