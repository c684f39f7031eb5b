# SPDX-License-Identifier: Apache-2.0
"""The page of costs is what its command writes, and the README says the same."""

import re

from benchmarks.recipe_cost import PAGE, RECIPES, page
from tests.helpers import ROOT


def test_the_page_is_up_to_date():
    """If not: python -m benchmarks.recipe_cost --write"""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_flops_are_those_of_the_formula_by_hand():
    # Llama-2-7B: 6 FLOPs a parameter of a matrix, and 6 x layers x hidden a token of the window.
    matrices = 32 * (4 * 4096**2 + 3 * 4096 * 11008) + 32000 * 4096
    for recipe in RECIPES:
        by_hand = sum(
            tokens * 1e9 * (6 * matrices + 6 * 32 * 4096 * k * 1024) for tokens, k in recipe.stages
        )
        assert abs(recipe.flops() * 1e20 / by_hand - 1) < 1e-12


def test_the_readme_repeats_it():
    rows = {tuple(cells(recipe.row())[at] for at in (0, 2, 3)) for recipe in RECIPES}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"FLOPs, as a 7B \|\n.*?\n((?:\|.*\n)+)", text)[1]
    for row in table.splitlines():
        assert tuple(cells(row)) in rows


def cells(row):
    return [cell.strip() for cell in row.strip("|").split("|")]
