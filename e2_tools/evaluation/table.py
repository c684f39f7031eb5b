# SPDX-License-Identifier: Apache-2.0
"""Tables as text, and the names of their rows."""

from pathlib import Path

from e2_tools.evaluation.result_file import Results


def aligned_text(rows: list[list[str]], *, left: int = 0) -> str:
    """Return rows as text, two blanks between columns.

    Args:
        rows: the head first, all of one length.
        left: how many columns, from the first, stand left; the others stand right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table as Markdown; numbers stand right, names left."""
    escaped = [[name.replace("|", "\\|"), *cells] for name, *cells in rows]
    lines = [head, ["---", *("---:" for _ in head[1:])], *escaped]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def by_label(files: list[tuple[Path, Results]]) -> dict[str, Results]:
    """Name each result file by its label; labels that occur twice get their path added."""
    labels = [results["label"] for _, results in files]
    return {
        (label if labels.count(label) == 1 else f"{label} ({path})"): results
        for label, (path, results) in zip(labels, files, strict=True)
    }


def number(value: float | None, kind: str = ".2f") -> str:
    """Format a value for a table; "-" if there is none."""
    return "-" if value is None else format(value, kind)
