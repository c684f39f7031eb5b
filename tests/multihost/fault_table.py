# SPDX-License-Identifier: Apache-2.0
"""The rows of the fault table in docs/reliability.md, written by the tests of the faults."""

import json
import os
import re
import textwrap
from pathlib import Path

FOLDER = "E2_FAULT_TABLE"  # the environment variable that says where to
WRAP = {"width": 118, "subsequent_indent": "   ", "break_on_hyphens": False}
TESTS = [Path(__file__).with_name(name) for name in ("test_faults.py", "test_slurm.py")]
COLUMNS = {
    "fault": "injected",
    "where": "where",
    "noticed": "noticed after",
    "restart": "goes on",
    "lost": "done again",
    "equal": "same losses",
}


def record(**row):
    """Keep the row of the running test if somebody asked for it."""
    assert row.keys() == COLUMNS.keys()
    if os.environ.get(FOLDER):
        name = re.search(r"::(.*) \(", os.environ["PYTEST_CURRENT_TEST"])[1]
        path = Path(os.environ[FOLDER], re.sub(r"[^\w\[\]-]", "-", name) + ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(row), encoding="utf-8")


def table(folder):
    """The rows in the order of the tests, as Markdown: a list of the faults, a table of the rest.

    Two parts, because a line of both would be wider than a page.
    """
    code = "".join(path.read_text(encoding="utf-8") for path in TESTS)
    order = re.findall(r"^def (test_\w+)", code, flags=re.MULTILINE)
    paths = sorted(Path(folder).glob("*.json"))
    paths.sort(key=lambda path: order.index(path.stem.partition("[")[0]))
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    faults = [
        textwrap.fill(f"{number}. {row['fault']}: {row['where']}", **WRAP)
        for number, row in enumerate(rows, 1)
    ]
    columns = [name for name in COLUMNS if name not in ("fault", "where")]
    lines = [["", *(COLUMNS[name] for name in columns)], ["---:", *["---"] * len(columns)]]
    lines += [
        [str(number), *(_cell(row[name]) for name in columns)] for number, row in enumerate(rows, 1)
    ]
    cells = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([*faults, "", *cells])


def _cell(value):
    return {True: "yes", False: "**no**"}[value] if isinstance(value, bool) else str(value)
