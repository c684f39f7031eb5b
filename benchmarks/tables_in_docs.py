# SPDX-License-Identifier: Apache-2.0
"""Fills the tables of the pages from collected result files, so that no figure is typed.

    python -m benchmarks.tables_in_docs            # says which tables differ
    python -m benchmarks.tables_in_docs --write    # writes them

Below a line ``<!-- table: results/FILE.json METRIC -->`` of a page in docs/ stands the table of a
file of ``plot_results.py --collect``; METRIC may be left out. Runs of one label are put together as
mean ± standard deviation, as ``plot_results.py --seeds --table`` prints them, with their number.
"""

import re
import sys
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error
from e2_common.files import atomic_file
from e2_tools.arguments import command_parser
from e2_tools.evaluation.attention import by_window as attention
from e2_tools.evaluation.collection import kind_of_collection, read_collection
from e2_tools.evaluation.perplexity.results import METRICS
from e2_tools.evaluation.perplexity.seeds import over_seeds
from e2_tools.evaluation.perplexity.tables import perplexity_rows
from e2_tools.evaluation.retrieval.by_window import METRIC, is_retrieval, percent_rows
from e2_tools.evaluation.table import by_label, markdown_table

DOCS = Path(__file__).resolve().parents[1] / "docs"
MARK = re.compile(
    r"<!-- table: (?P<file>\S+)(?: (?P<metric>\w+))? -->\n\n?(?P<table>(?:\|.*\n)*)\n?"
)


def table(path: Path, metric: str | None = None) -> str:
    """The Markdown table of a collection, with a line break at its end.

    Args:
        path: of the file.
        metric: of its rows; the usual one of its kind by default. An attention's is to be named.

    Raises:
        UserError: the file is missing or not whole.
    """
    runs = read_collection(path)
    labels = [results["label"] for _, results in runs]
    kind = kind_of_collection(path)
    share = METRIC if is_retrieval(kind) else metric if kind == attention.SCHEMA else None
    metrics = (share,) if share else METRICS
    files = by_label(runs) if len(set(labels)) == len(labels) else over_seeds(runs, metrics)
    if share:
        head, rows = percent_rows(files, share)
    else:
        head, rows = perplexity_rows(files, metric or METRICS[0], False)
    if len(files) < len(runs):
        head = [head[0], "seeds", *head[1:]]
        rows = [[row[0], str(labels.count(row[0])), *row[1:]] for row in rows]
    # Without the blank six windows fit into a page's 120 columns.
    return markdown_table(head, rows).replace(" ± ", " ±") + "\n"


def filled(page: Path) -> str:
    """The text of a page with its tables as their files have them."""

    def fill(match: re.Match) -> str:
        more = f" {match['metric']}" if match["metric"] else ""
        rows = table(page.parent / match["file"], match["metric"])
        return f"<!-- table: {match['file']}{more} -->\n\n{rows}\n"

    return MARK.sub(fill, page.read_text(encoding="utf-8")).rstrip("\n") + "\n"


@exit_on_user_error
def main() -> None:
    """Compare or write the tables of all pages."""
    parser = command_parser(__doc__)
    parser.add_argument("--write", action="store_true", help="write what differs")
    args = parser.parse_args()
    stale = False
    for page in sorted(DOCS.glob("*.md")):
        text = filled(page)
        if text == page.read_text(encoding="utf-8"):
            continue
        if not args.write:
            print(f"{page}: a table differs from its file; run this with --write", file=sys.stderr)
            stale = True
            continue
        with atomic_file(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"{page}: written")
    if stale:
        raise UserError("tables differ")


if __name__ == "__main__":
    main()
