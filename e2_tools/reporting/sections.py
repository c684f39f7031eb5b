# SPDX-License-Identifier: Apache-2.0
"""The parts of a report, a function for each kind of result."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from e2_common.errors import UserError
from e2_tools.evaluation.attention.by_window import SCHEMA as ATTENTION
from e2_tools.evaluation.attention.picture import draw_attention
from e2_tools.evaluation.conditions import conditions, told_scales, told_windows
from e2_tools.evaluation.longbench.origin import KINDS
from e2_tools.evaluation.longbench.plots import draw_ablation, draw_iterations
from e2_tools.evaluation.longbench.summaries import SCHEMA as LONGBENCH
from e2_tools.evaluation.longbench.summaries import Summary, read_summary
from e2_tools.evaluation.longbench.summaries import differences as longbench_differences
from e2_tools.evaluation.needle.prompt import Needle
from e2_tools.evaluation.passkey.prompt import Passkey
from e2_tools.evaluation.perplexity.plots import draw
from e2_tools.evaluation.perplexity.results import (
    KEY_TOKENS,
    METRICS,
    differences,
    read_results,
)
from e2_tools.evaluation.perplexity.results import SCHEMA as PERPLEXITY
from e2_tools.evaluation.perplexity.seeds import over_seeds
from e2_tools.evaluation.perplexity.tables import perplexity_rows
from e2_tools.evaluation.recall.prompt import Recall
from e2_tools.evaluation.result_file import Results
from e2_tools.evaluation.retrieval.results import draw_results
from e2_tools.evaluation.ruler.results import SCHEMA as RULER
from e2_tools.evaluation.ruler.results import draw_scores, means, rows, told_effective
from e2_tools.evaluation.ruler.score import THRESHOLD, effective_window
from e2_tools.evaluation.short import SCHEMA as SHORT
from e2_tools.evaluation.table import by_label, number
from e2_tools.plotting import Looks
from e2_tools.reporting.collect import Result, Run, kind_of
from e2_tools.reporting.curves import draw_curves, read_scalars
from e2_tools.reporting.page import Section, Table
from e2_tools.reporting.short_tasks import short_tasks


class Page(NamedTuple):
    """What all sections of a page share.

    Attributes:
        run: what was found.
        seeds: perplexities of one label are one run under several seeds.
        looks: of the lines, so that a model has one colour everywhere.
    """

    run: Run
    seeds: bool
    looks: Looks


Maker = Callable[[Page, list[Result]], list[Section]]


def sections_of(run: Run, *, seeds: bool = False) -> list[Section]:
    """Return the sections that a run has results for, in the order of a reader's questions.

    Args:
        run: what was found.
        seeds: perplexities of one label are one run under several seeds.

    Raises:
        UserError: a result file is incomplete.
    """
    sections = []
    page = Page(run, seeds, Looks())
    for kind, make in MAKERS.items():
        if kind in run.results:
            try:
                sections += make(page, run.results[kind])
            except (LookupError, TypeError, ValueError, ArithmeticError) as error:
                files = ", ".join(str(path) for path, _ in run.results[kind])
                raise UserError(f"{files}: not a whole {kind} result; evaluate anew") from error
    if run.events:
        sections += _training(page)
    sections.append(_origins(run))
    return sections


def _perplexity(page: Page, results: list[Result]) -> list[Section]:
    files = [(path, read_results(path)) for path, _ in results]
    labelled = over_seeds(files, METRICS) if page.seeds else by_label(files)
    section = Section(
        "Perplexity by window",
        "Lower is better. Every row is one model; only the scale of RoPE changes between columns.",
    )
    _by_window(page, section, labelled, "perplexity", "Perplexity of held-out documents by window")
    keyed = {label: each for label, each in labelled.items() if each.get("key_tokens")}
    if keyed:
        caption = "Perplexity of the tokens that a long context makes easy (LongPPL), by window"
        _by_window(page, section, keyed, KEY_TOKENS, caption)
    section.tables.append(_conditions(page, files, "How the perplexities were measured."))
    for setting in differences([content for _, content in files], "perplexity"):
        section.notes.append(f"These files differ in {setting}: do not compare their numbers.")
    if keyed and "key_tokens" in differences(list(keyed.values()), KEY_TOKENS):
        section.notes.append("These files differ in the key tokens: do not compare these.")
    return [section]


def _by_window(
    page: Page, section: Section, labelled: dict[str, Results], metric: str, caption: str
) -> None:
    """Add a perplexity's picture and table."""
    # Over documents; where a line stands for several seeds, their range is shown instead.
    intervals = not page.seeds and all(
        row.get(f"{metric}_interval") for each in labelled.values() for row in each["results"]
    )
    caption += ", with 95 % bootstrap intervals over documents." if intervals else "."
    figure = draw(labelled, metric, intervals=intervals, looks=page.looks)
    section.figures.append((caption, figure))
    told = caption if metric == KEY_TOKENS else ""  # the first table is what the section is about
    section.tables.append(Table(*perplexity_rows(labelled, metric, intervals), told))


def _conditions(page: Page, files: list[tuple[Path, Results]], caption: str) -> Table:
    """A row a file: windows, scales, L, and what else its numbers depend on."""
    told = [conditions(content) for _, content in files]
    names = list(dict.fromkeys(name for each in told for name in each))
    rows = []
    for (path, content), each in zip(files, told, strict=True):
        base = content.get("base_window")
        base = "-" if base is None else f"{base:,}"
        own = [told_windows(content), told_scales(content) or "-", base]
        others = [each.get(name, "-") for name in names]
        rows.append([content["label"], str(path.relative_to(page.run.folder)), *own, *others])
    return Table(["model", "file", "windows", "scale", "L", *names], rows, caption)


def _grid(title: str, about: str) -> Maker:
    def make(page: Page, results: list[Result]) -> list[Section]:
        section = Section(title, about)
        rows = []
        for path, content in results:
            caption = f"{content['label']} ({path.relative_to(page.run.folder)})"
            section.figures.append((caption, draw_results(content)))
            cells = content["results"]
            correct, trials = (sum(cell[key] for cell in cells) for key in ("correct", "trials"))
            share = f"{100 * correct / trials:.1f} %"
            rows.append([content["label"], f"{correct:,} of {trials:,}", share])
        section.tables.append(Table(["model", "answers", "retrieved"], rows))
        files = [(path, content) for path, content in results]
        section.tables.append(_conditions(page, files, "How they were asked."))
        return [section]

    return make


def _ruler(page: Page, results: list[Result]) -> list[Section]:
    section = Section(
        "RULER",
        "Scores in percent by task and window. The effective window is the largest up to which "
        f"every mean exceeds {THRESHOLD}, the mean of Llama-2-7B over all 13 tasks at 4k.",
    )
    for path, content in results:
        name = f"{content['label']} ({path.relative_to(page.run.folder)})"
        head, *scores = rows(content)
        effective = told_effective(effective_window(means(content)))
        caption = f"{name}, {content['trials']} samples a cell; effective window: {effective}"
        section.figures.append((name, draw_scores(content)))
        section.tables.append(Table(head, scores, caption))
    return [section]


def _longbench(page: Page, results: list[Result]) -> list[Section]:
    """A section for each kind of records: others than LongBench's are not called so."""
    summaries = [read_summary(path) for path, _ in results]
    of_kind = {kind: [summary for summary in summaries if summary.kind == kind] for kind in KINDS}
    return [_scores(kind, found) for kind, found in of_kind.items() if found]


def _scores(kind: str, summaries: list[Summary]) -> Section:
    names = list(by_label([(each.path, {"label": each.label}) for each in summaries]))
    tasks = list(dict.fromkeys(task for each in summaries for task in each.scores))
    told = [", ".join(dict.fromkeys(_records(each, task) for each in summaries)) for task in tasks]
    rows = [
        [task, records, *(number(each.scores.get(task)) for each in summaries)]
        for task, records in zip(tasks, told, strict=True)
    ]
    rows += [
        [f"mean {name}", "", *(number(each.averages[name]) for each in summaries)]
        for name in summaries[0].averages
    ]
    iterations = {each.iteration for each in summaries}
    if len(summaries) > 1 and len(iterations) == len(summaries) and None not in iterations:
        figure = draw_iterations(sorted(summaries, key=lambda each: each.iteration or 0))
        caption = "Means by training iteration."
    else:
        named = zip(summaries, names, strict=True)
        figure = draw_ablation([each._replace(label=name) for each, name in named])
        caption = "Means of the tasks that all models have."
    section = Section(
        KINDS[kind].title,
        f"{KINDS[kind].about} Scores in percent by LongBench's metrics; EN over 14 tasks, ZH over "
        "4, All over these 18, plain means, - while a task is missing.",
        figures=[(caption, figure)],
        tables=[Table(["task", "records", *names], rows)],
    )
    for setting in longbench_differences(summaries):
        section.notes.append(f"These files differ in {setting}: do not compare their numbers.")
    return section


def _records(summary: Summary, task: str) -> str:
    return summary.records.get(task, "?" if task in summary.scores else "-")


def _attention(page: Page, results: list[Result]) -> list[Section]:
    section = Section(
        "Attention",
        "What the tokens of an answer attend to in a long input; the value asked for is marked.",
    )
    head = ["model", "window", "scale", "on the value", "right", "answer"]
    rows = []
    for path, content in results:
        caption = f"{content['label']} ({path.relative_to(page.run.folder)})"
        section.figures.append((caption, draw_attention(content)))
        for row in content["results"]:
            found = [layer["on_value"] for layer in row["layers"].values()]
            shares = ["-" if share is None else f"{100 * share:.1f} %" for share in found]
            right = {True: "yes", False: "no", None: "-"}[row["correct"]]
            answer = row["answer"].strip()
            cells = [str(row["window"]), number(row["scale"], "g"), ", ".join(shares), right]
            rows.append([content["label"], *cells, answer])
    section.tables.append(Table(head, rows, prose=True))
    return [section]


def _training(page: Page) -> list[Section]:
    run = page.run
    # Names without what they share: tensorboard/base, tensorboard/e2 -> base, e2.
    above = Path(os.path.commonpath([folder.parent for folder in run.events]))
    runs = {str(folder.relative_to(above)): read_scalars(folder) for folder in run.events}
    figure = draw_curves(runs, page.looks)
    if figure is None:
        return []
    about = "From the TensorBoard files of the run; of an iteration done twice the later one."
    return [Section("Training", about, figures=[("Curves by iteration.", figure)])]


def _origins(run: Run) -> Section:
    rows = []
    for results in run.results.values():
        for path, content in results:
            origin = content.get("provenance") or {}
            versions = origin.get("versions") or content.get("versions") or {}
            rows.append(
                [
                    str(path.relative_to(run.folder)),
                    origin.get("command") or "-",
                    origin.get("commit") or "-",
                    ", ".join(f"{name} {version}" for name, version in versions.items()) or "-",
                    _machine(origin.get("hardware") or {}),
                ]
            )
    head = ["file", "command", "commit", "versions", "machine"]
    about = "What made each result file, as the file itself records it."
    return Section("Where the numbers come from", about, tables=[Table(head, rows, prose=True)])


def _machine(hardware: dict[str, Any]) -> str:
    if not hardware:
        return "-"
    parts = [*hardware.get("gpus", []), f"{hardware.get('cores')} x {hardware.get('cpu')}"]
    if hardware.get("memory_gib"):
        parts.append(f"{hardware['memory_gib']:g} GiB")
    return ", ".join(parts)


MAKERS: dict[str, Maker] = {
    kind_of(PERPLEXITY): _perplexity,
    kind_of(LONGBENCH): _longbench,
    kind_of(Passkey.schema): _grid(
        "Passkey",
        "A number hidden in filler text; the share of trials in which the model gives it back, "
        "by window and depth.",
    ),
    kind_of(Needle.schema): _grid(
        "Needle in a haystack",
        "RULER's single needle; the share of trials in which the answer names it, by window and "
        "depth.",
    ),
    kind_of(Recall.schema): _grid(
        "Span recall",
        "Four made-up words told once; the share of trials in which the model continues them when "
        "the first comes again, by window and depth.",
    ),
    kind_of(RULER): _ruler,
    kind_of(SHORT): lambda page, results: short_tasks(page.run.folder, results),
    kind_of(ATTENTION): _attention,
}
