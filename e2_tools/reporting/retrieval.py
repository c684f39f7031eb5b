# SPDX-License-Identifier: Apache-2.0
"""The parts of a report on retrieval: passkey, needle, span recall, RULER, BABILong and MRCR."""

from e2_tools.evaluation.babilong.prompts import SCHEMA as BABILONG
from e2_tools.evaluation.conditions import told_scale, told_scales
from e2_tools.evaluation.intervals import share_interval, told_percent
from e2_tools.evaluation.mrcr.records import SCHEMA as MRCR
from e2_tools.evaluation.needle.prompt import Needle
from e2_tools.evaluation.passkey.prompt import Passkey
from e2_tools.evaluation.perplexity.plots import draw
from e2_tools.evaluation.recall.prompt import Recall
from e2_tools.evaluation.retrieval.by_window import (
    METRIC,
    differences,
    read_by_window,
    settings_that_count,
)
from e2_tools.evaluation.retrieval.results import draw_results
from e2_tools.evaluation.ruler.results import SCHEMA as RULER_SCHEMA
from e2_tools.evaluation.ruler.results import draw_scores
from e2_tools.evaluation.ruler.score import THRESHOLD, effective_window
from e2_tools.evaluation.ruler.tasks import TASKS
from e2_tools.reporting.checkpoints import Page
from e2_tools.reporting.collect import kind_of
from e2_tools.reporting.lines import (
    Files,
    Group,
    Line,
    Row,
    conditions_table,
    differ,
    grouped,
    lines_of,
    share_cell,
    table,
    told_apart,
    told_conditions,
    told_interval,
)
from e2_tools.reporting.page import WIDTH, Cell, Section, Table

RULER = kind_of(RULER_SCHEMA)
# Kind -> title, and what is asked.
TESTS = {
    kind_of(Needle.schema): (
        "Needle in a haystack",
        "RULER's single needle; the share of trials in which the answer names it, by window and "
        "depth.",
    ),
    kind_of(Passkey.schema): (
        "Passkey",
        "A number hidden in filler text; the share of trials in which the model gives it back, "
        "by window and depth.",
    ),
    kind_of(Recall.schema): (
        "Span recall",
        "Four made-up words told once; the share of trials in which the model continues them when "
        "the first comes again, by window and depth.",
    ),
    kind_of(BABILONG): (
        "BABILong",
        "Facts of a story in a long text and a question about them; the share of right answers, by "
        "window and task.",
    ),
    kind_of(MRCR): (
        "MRCR",
        "One of several requests that are alike in a long conversation is to be answered again; "
        "the mean similarity to its answer, by window and number of requests.",
    ),
}
_TOLD = ("schema", "values", "among", "chat")
_MARKS = (0.0, THRESHOLD, 100.0)
_INTERVALS = "Intervals are Wilson's, 95 %."


def groups(page: Page, kind: str) -> list[Group]:
    """Return the files of a kind by which questions were asked, and how many of each."""
    whole = [(path, results) for path, results in _files(page, kind) if results["results"]]
    found = grouped(whole, lambda each: [settings_that_count(each), each.get("trials")])
    alone = [Group(lines_of(page, files)) for files in found]
    return told_apart(alone, settings_that_count, _TOLD)


def ruler_cell(row: Row) -> Cell:
    """Return a mean over tasks, in RULER's two decimals, with what it depends on."""
    return share_cell(row, 2, _MARKS)


def effective_cell(line: Line) -> Cell:
    """Return the effective window of a checkpoint, its scales, and the means that it hangs on."""
    means = {row["window"]: 100 * row[METRIC] for row in line.results["results"]}
    found = effective_window(means)
    if found is None:
        smallest = min(means)
        return Cell("none", (_told_mean(line.rows[smallest]), told_scales(line.results)))
    beyond = [window for window in sorted(means) if window > found]
    small = [_told_mean(line.rows[found])]
    small.append(_told_mean(line.rows[beyond[0]]) if beyond else "no larger one was asked")
    near = [line.rows[window] for window in (found, *beyond[:1])]
    if any(
        100 * low <= THRESHOLD <= 100 * high
        for low, high in (r[f"{METRIC}_interval"] for r in near)
    ):
        small.append(f"uncertain: {THRESHOLD} lies within an interval")
    return Cell(f"{found:,}", (*small, told_scales(line.results)))


def told_tasks(group: Group) -> str:
    """Return over how many of RULER's tasks the means are, and what that means for the window."""
    asked = len(group.lines[0].results["tasks"])
    told = f"{asked} of RULER's {len(TASKS)} tasks"
    return told if asked == len(TASKS) else f"{told}: compares only with the same tasks"


def told_asked(group: Group) -> str:
    """Return over how many depths, or tasks, the shares are."""
    results = group.lines[0].results
    where = "tasks" if "tasks" in results else "depths"
    return f"{len(results[where])} {where}"


def section(page: Page, kind: str) -> list[Section]:
    """Return the section of a test, if it was asked."""
    title, about = TESTS[kind]
    return _section(page, kind, Section(title, f"{about} {_INTERVALS}"))


def ruler_section(page: Page) -> list[Section]:
    """Return RULER's section, if it was asked."""
    about = (
        "Scores in percent by task and window, as RULER scores them. The effective window is the "
        f"largest up to which every mean exceeds {THRESHOLD}, the mean of Llama-2-7B over all "
        f"{len(TASKS)} tasks at 4k. {_INTERVALS} Those of a mean are for as many questions as all "
        "tasks have together: too wide rather than too narrow."
    )
    return _section(page, RULER, Section("RULER", about))


def _section(page: Page, kind: str, made: Section) -> list[Section]:
    files = _files(page, kind)
    if not files:
        return []
    found = groups(page, kind)
    if len(found) > 1:
        each = [next(iter(group.files.values())) for group in found]
        made.notes.append(differ(differences(each)))
    for path, results in files:
        if windows := results.get("left_out"):
            told = ", ".join(f"{window:,}" for window in windows)
            made.notes.append(
                f"{page.file(path)}: window {told} was not asked everything, so it is left out; go "
                "on with --resume."
            )
    for group in found:
        _add(page, made, kind, group)
    if any(each.lines for each in found):
        whole = [(path, results) for path, results in files if results["results"]]
        made.tables.append(conditions_table(page, whole, "How they were asked."))
    return [made]


def _add(page: Page, made: Section, kind: str, group: Group) -> None:
    is_ruler = kind == RULER
    figure = draw(group.files, METRIC, intervals=True, looks=page.looks, width=WIDTH)
    if is_ruler:
        figure.axes[0].axhline(THRESHOLD / 100, color="#999999", linewidth=1, linestyle="--")
    shown = "Means by window; the dashed line is the threshold." if is_ruler else "By window."
    made.figures.append((shown, figure))
    contents = {page.number(path): content for path, content in page.of(kind)}
    for line in group.lines:
        (number,) = line.sources
        content = contents[number] | {"label": line.shown}
        made.figures.append(
            (line.shown, draw_scores(content) if is_ruler else draw_results(content))
        )
    told = told_conditions(group)
    if is_ruler:
        more = ("effective window", effective_cell)
        caption = f"Means of {told_tasks(group)}; {told}."
        made.tables.append(table(page, group, ruler_cell, caption, more))
        made.tables += [_tasks(page, group, contents, window) for window in group.windows]
    elif "tasks" in group.lines[0].results:
        made.tables.append(table(page, group, share_cell, f"Means of {told_asked(group)}; {told}."))
        made.tables += [_tasks(page, group, contents, window) for window in group.windows]
    else:
        depths = ", ".join(f"{depth:g}" for depth in group.lines[0].results["depths"])
        made.tables.append(table(page, group, share_cell, f"{told}, depths {depths} %."))


def _tasks(page: Page, group: Group, contents: dict[int, dict], window: int) -> Table:
    """The scores of a window, a row a task, the checkpoints beside each other."""
    lines = [line for line in group.lines if window in line.rows]
    scales = [told_scale(line.rows[window]["scale"]) for line in lines]
    heads = [
        page.head(line.shown, scale, sources=line.sources)
        for line, scale in zip(lines, scales, strict=True)
    ]
    rows: list[list[str | Cell]] = []
    for task in group.lines[0].results["tasks"]:
        cells = [
            next(
                cell
                for cell in contents[line.sources[0]]["results"]
                if cell["window"] == window and cell["task"] == task
            )
            for line in lines
        ]
        rows.append([task, *map(_task_cell, cells)])
    return Table(["task", *heads], rows, f"By task, window {window:,}.")


def _task_cell(cell: Row) -> Cell:
    ends = told_interval(
        share_interval(cell["correct"], cell["trials"]), lambda share: told_percent(share, 0)
    )
    told = f"{told_percent(cell['accuracy'], 2)} %"
    return Cell(told, (f"{ends}, {cell['trials']:,} asked",))


def _told_mean(row: Row) -> str:
    ends = told_interval(row[f"{METRIC}_interval"], lambda share: told_percent(share, 0))
    share = f"{told_percent(row[METRIC], 1, _MARKS)} % of {row['trials']:,}"
    return f"{share} at {row['window']:,} ({ends})"


def _files(page: Page, kind: str) -> Files:
    return [
        (path, read_by_window(path, unfinished=True) | {"label": content["label"]})
        for path, content in page.of(kind)
    ]
