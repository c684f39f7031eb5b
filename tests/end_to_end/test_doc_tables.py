# SPDX-License-Identifier: Apache-2.0
"""Tables of the pages are those of their result files."""

import json

import pytest

from benchmarks.tables_in_docs import DOCS, MARK, filled, table

PAGES = sorted(page for page in DOCS.glob("*.md") if MARK.search(page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_up_to_date(page):
    """If not: python -m benchmarks.tables_in_docs --write"""
    assert filled(page) == page.read_text(encoding="utf-8")


def test_there_are_such_tables():
    assert DOCS / "comparison.md" in PAGES


def test_means_and_deviations_by_hand(tmp_path):
    runs = [
        {"file": f"{n}.json", "label": "one", "rows": [[64, 1.0, value, None]]}
        for n, value in enumerate((10.0, 11.0, 15.0))
    ]
    head = {
        "schema": "e2-llm/collection/1",
        "settings": {"schema": "e2-llm/perplexity/1"},
        "columns": ["window", "scale", "perplexity", "perplexity_full_context"],
        "runs": runs,
    }
    (tmp_path / "some.json").write_text(json.dumps(head))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: some.json -->\n\n| old |\n| --- |\n\nafter\n")
    rows = "| window | seeds | 64 |\n| --- | ---: | ---: |\n| one | 3 | 12.00 ±2.65 |\n"  # sqrt(7)
    assert table(tmp_path / "some.json") == rows
    assert filled(page) == f"before\n<!-- table: some.json -->\n\n{rows}\nafter\n"
