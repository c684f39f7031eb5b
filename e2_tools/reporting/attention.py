# SPDX-License-Identifier: Apache-2.0
"""The part of a report on attention: what an answer attends to."""

from e2_tools.evaluation.attention.by_window import SCHEMA
from e2_tools.evaluation.attention.picture import draw_attention
from e2_tools.evaluation.conditions import told_scale
from e2_tools.reporting.checkpoints import Page
from e2_tools.reporting.collect import kind_of
from e2_tools.reporting.page import Cell, Section, Table

KIND = kind_of(SCHEMA)


def section(page: Page) -> list[Section]:
    """Return the section, if there are such results."""
    found = page.of(KIND)
    if not found:
        return []
    made = Section(
        "Attention",
        "What the tokens of one answer attend to in a long input; the value asked for is marked. "
        "One question a window shows how a model reads, and is no measure of it.",
    )
    rows: list[list[str | Cell]] = []
    for path, content in found:
        name = content["label"]
        made.figures.append((f"{name} ({page.file(path)})", draw_attention(content)))
        for row in content["results"]:
            shares = [
                "-"
                if each["on_value"] is None
                else f"{100 * each['on_value']:.1f} % (layer {layer})"
                for layer, each in row["layers"].items()
            ]
            right = {True: "yes", False: "no", None: "-"}[row["correct"]]
            window = Cell(f"{row['window']:,}", (told_scale(row["scale"]),))
            shown = page.head(name, sources=(page.number(path),))
            rows.append([shown, window, ", ".join(shares), right, row["answer"].strip()])
    head: list[str | Cell] = ["checkpoint", "window", "on the value", "right", "answer"]
    made.tables.append(Table(head, rows, prose=True))
    return [made]
