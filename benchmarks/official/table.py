# SPDX-License-Identifier: Apache-2.0
"""Every comparison with an author's code, and the table that they make."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.official import (
    clex,
    cope,
    cream,
    drope,
    endprompt,
    gene,
    gpt_oss,
    llama,
    longrope,
    pose,
    randpos,
    yarn,
)
from benchmarks.official.clones import COMMITS, Clone, MissingClone
from benchmarks.official.findings import Finding

# Method, name of the clone, comparison.
COMPARISONS: tuple[tuple[str, str, Callable[[Clone, int], Iterator[Finding]]], ...] = (
    ("PoSE", "PoSE", pose.compare),
    ("RandPos", "randomized_positional_encodings", randpos.compare),
    ("CREAM", "CREAM", cream.compare),
    ("EndPrompt", "EndPrompt", endprompt.compare),
    ("GeNE", "GeNE", gene.compare),
    ("CLEX", "CLEX", clex.compare),
    ("YaRN, NTK, linear", "yarn", yarn.compare),
    ("YaRN, not rounded", "gpt-oss", gpt_oss.compare),
    ("Llama 3", "llama-models", llama.compare),
    ("LongRoPE", "LongRoPE", longrope.compare),
    ("LongRoPE2", "nnscaler", longrope.compare_two),
    ("CoPE", "CoPE", cope.compare),
    ("DroPE", "DroPE", drope.compare),
)


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        method: as people call it.
        source: repository and commit.
        finding: None where the clone is missing.
    """

    method: str
    source: str
    finding: Finding | None


def rows(
    folder: Path, draws: int, tell: Callable[[str], None], comparisons: tuple = COMPARISONS
) -> Iterator[Row]:
    """Run the comparisons.

    Args:
        folder: with a clone for each name of :data:`COMMITS`.
        draws: of each sample.
        tell: takes a line about a clone that is missing.
        comparisons: lines of :data:`COMPARISONS`.
    """
    for method, name, compare in comparisons:
        repository, commit = COMMITS[name]
        source = f"{repository} {commit[:7]}"
        try:
            found = [Row(method, source, it) for it in compare(Clone.within(folder, name), draws)]
        except MissingClone as error:
            tell(f"skipped: {method}: {error}")
            found = [Row(method, source, None)]
        yield from found


def markdown(found: list[Row]) -> str:
    """The table of some rows; a method and its source stand in its first row alone."""
    lines = ["| method | repository, commit | compared | result |", "|---|---|---|---|"]
    before = None
    for method, source, finding in found:
        first = (method, source) != before
        before = method, source
        compared, result, agrees = finding or Finding("", "skipped: no clone", True)
        result = result if agrees else f"**differs**: {result}"
        cells = [*(before if first else ("", "")), compared, result]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
