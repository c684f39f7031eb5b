# SPDX-License-Identifier: Apache-2.0
"""The experiment's tables and pictures, of the cells that are finished."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from e2_common.errors import UserError
from e2_common.files import atomic_file
from e2_common.json_file import read_json_object
from e2_tools.evaluation.result_file import Results, write_results
from e2_tools.evaluation.table import markdown_table
from examples.smollm2_135m.extend.costs import Costs
from examples.smollm2_135m.extend.plan import Cell, Column, served_as

TITLES = {
    "perplexity": "Perplexity of held-out books: their first W tokens",
    "perplexity_last": "Perplexity of the last quarter of these windows",
    "noise": "RULER's single needle in noise (niah_single_1), % right",
    "book": "RULER's single needle in a book (the form of niah_single_2), % right",
    "multikey": "RULER's needle among four in a book (the form of niah_multikey_1), % right",
}


def join(label: str, cells: Iterable[Results]) -> Results:
    """Join result files of one model, of several windows or seeds, into one that can be drawn.

    Args:
        label: of the new one.
        cells: result files of ``evaluate_perplexity.py`` with one window each, in which every
            document is one window and the stride a quarter of it; or of ``evaluate_needle.py``, or
            of ``evaluate_ruler.py``.
    """
    cells = list(cells)
    joined = {**cells[0], "label": label}
    if "stride" in joined:  # the same share of every window, and so are the tokens that it scores
        joined |= {"stride": "W / 4", "full_context_from": "3 W / 4"}
        del joined["documents"]
    rows = [row for cell in cells for row in cell["results"]]
    joined["results"] = sorted(rows, key=lambda row: (row["window"], row.get("depth", 0)))
    return joined


def write_tables(
    folder: Path,
    columns: list[Column],
    cells: list[Cell],
    files: dict[Cell, Path],
    base_window: int,
    train_window: int,
) -> str:
    """Write ``tables.md`` and the pictures into a folder, of what there is; return the tables.

    Args:
        folder: that holds ``costs.jsonl``.
        columns: of the tables, a row each.
        cells: of the plan.
        files: cell -> its result file, for finished ones.
        base_window: L, in tokens.
        train_window: R, in tokens.

    Raises:
        UserError: a result file is broken.
    """
    parts = []
    for test in dict.fromkeys(cell.test for cell in cells):
        joined = []
        for column in columns:
            mine = [
                read_json_object(files[cell], "remove it")
                for cell in cells
                if cell.test == test
                and cell.column == served_as(column, cell.window, base_window)
                and cell in files
            ]
            if mine:
                joined.append(folder / "tables" / f"{test}-{column.name}.json")
                write_results(joined[-1], join(column.label, mine))
        if not joined:
            continue
        metrics = [None, "perplexity_full_context"] if test == "perplexity" else [None]
        for metric in metrics:
            name = test if metric is None else "perplexity_last"
            options = ["--metric", metric] if metric else ["--collect", folder / f"{name}.json"]
            table = _plot(joined, folder / f"{name}.png", TITLES[name], train_window, options)
            parts.append(f"## {TITLES[name]}\n\n{table}")
    costs = markdown_table(*Costs(folder / "costs.jsonl").table())
    parts.append(f"## What it cost\n\n{costs}\n")
    text = "\n".join(parts)
    with atomic_file(folder / "tables.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def _plot(
    files: list[Path], picture: Path, title: str, train_window: int, options: list[object]
) -> str:
    words = ["--table", "--output", picture, "--title", title, "--train-window", train_window]
    run = subprocess.run(
        [sys.executable, "tools/plot_results.py", *map(str, [*files, *words, *options])],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise UserError((run.stderr.strip().splitlines() or [title])[-1].removeprefix("error: "))
    return run.stdout
