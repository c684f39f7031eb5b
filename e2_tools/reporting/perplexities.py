# SPDX-License-Identifier: Apache-2.0
"""The part of a report on perplexity: pictures and tables of what was measured alike."""

import math
from dataclasses import replace
from pathlib import Path

from e2_tools.evaluation.perplexity.bootstrap import interval_of_difference
from e2_tools.evaluation.perplexity.plots import draw
from e2_tools.evaluation.perplexity.results import (
    KEY_TOKENS,
    METRICS,
    SCHEMA,
    differences,
    read_results,
    settings_that_count,
)
from e2_tools.evaluation.perplexity.seeds import over_seeds
from e2_tools.evaluation.result_file import comparable
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
    table,
    told_apart,
    told_conditions,
    told_interval,
    value_cell,
)
from e2_tools.reporting.page import WIDTH, Cell, Section

KIND = kind_of(SCHEMA)


def groups(page: Page) -> list[Group]:
    """Return the files by what their perplexities depend on: documents, protocol, stride, BOS."""
    found = [_group(page, files) for files in grouped(_files(page), settings_that_count)]
    return told_apart(found, settings_that_count, ("protocol", "stride"))


def keyed(group: Group) -> list[Group]:
    """Return the lines that have perplexities of key tokens, by the list of these."""
    found: dict[str, list[Line]] = {}
    for line in group.lines:
        if any(row.get(KEY_TOKENS) is not None for row in line.results["results"]):
            found.setdefault(str(comparable(line.results.get("key_tokens"))), []).append(line)
    if len(found) < 2:
        return [Group(lines, group.apart) for lines in found.values()]
    return [Group(lines, _told_list(group, lines[0])) for lines in found.values()]


def _told_list(group: Group, line: Line) -> str:
    name = Path(line.results["key_tokens"].get("path", "")).name
    return ", ".join(filter(None, (group.apart, f"key tokens of {name}")))


def cell(row: Row) -> Cell:
    """Return a perplexity with what it depends on."""
    return value_cell(row, "perplexity", "tokens", "tokens")


def key_cell(row: Row) -> Cell:
    """Return a perplexity of key tokens with what it depends on."""
    return value_cell(row, KEY_TOKENS, "tokens_key_tokens", "key tokens")


def section(page: Page) -> list[Section]:
    """Return the section, if there are perplexities."""
    if not (found := groups(page)):
        return []
    about = (
        "Lower is better. A row is a checkpoint; only the scale of RoPE changes between columns. "
        "Intervals are 95 % bootstrap intervals over documents; two models on the same documents "
        "differ by less than these say."
    )
    made = Section("Perplexity by window", about)
    if len(found) > 1:
        each = [next(iter(group.files.values())) for group in found]
        unknown = ["the documents, which an older file does not name"]
        made.notes.append(differ(differences(each, "perplexity") or unknown))
    for group in found:
        _add(page, made, group, "perplexity", "Perplexity by window")
        for keys in keyed(group):
            _add(
                page,
                made,
                keys,
                KEY_TOKENS,
                "Of the tokens that a long context makes easy (LongPPL)",
            )
    made.tables.append(conditions_table(page, _files(page), "How the perplexities were measured."))
    return [made]


def told_change(before: Row, after: Row) -> str:
    """Return by how much a perplexity differs from another on the same documents, in percent.

    The interval is that of the mean difference of the losses, over documents.
    """
    share = after["perplexity"] / before["perplexity"] - 1
    told = f"{100 * share:+.1f} %"
    old, new = (row.get("documents") or {} for row in (before, after))
    counts = old.get("count")
    if not counts or counts != new.get("count"):
        return told
    ends = interval_of_difference(old["nll_sum"], new["nll_sum"], counts)
    percents = ends and [100 * math.expm1(end) for end in ends]
    return f"{told} ({told_interval(percents, lambda end: f'{end:+.1f}')})" if percents else told


def _files(page: Page) -> Files:
    return [
        (path, read_results(path) | {"label": content["label"]}) for path, content in page.of(KIND)
    ]


def _group(page: Page, files: Files) -> Group:
    if not page.seeds:
        return Group(lines_of(page, files))
    together = over_seeds(files, METRICS)
    return Group(
        [
            Line(
                label,
                label,
                results
                | {"results": [row | {"runs": results["runs"]} for row in results["results"]]},
                tuple(page.number(path) for path, each in files if each["label"] == label),
            )
            for label, results in together.items()
        ]
    )


def _add(page: Page, made: Section, group: Group, metric: str, caption: str) -> None:
    if metric != KEY_TOKENS:  # how many of these there are says nothing of the others
        group = replace(group, lines=[_without_keys(line) for line in group.lines])
    # Where a line stands for several seeds, their range is drawn instead.
    intervals = not page.seeds and all(
        row.get(f"{metric}_interval")
        for line in group.lines
        for row in line.results["results"]
        if row.get(metric) is not None
    )
    figure = draw(group.files, metric, intervals=intervals, looks=page.looks, width=WIDTH)
    made.figures.append((f"{caption}.", figure))
    told = f"{caption}: {told_conditions(group)}."
    made.tables.append(table(page, group, key_cell if metric == KEY_TOKENS else cell, told))


def _without_keys(line: Line) -> Line:
    results = {name: value for name, value in line.results.items() if name != "key_tokens"}
    return replace(line, results=results)
