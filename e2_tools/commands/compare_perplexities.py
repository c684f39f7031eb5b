# SPDX-License-Identifier: Apache-2.0
"""Compare perplexities of the same documents with a reference's, as a Markdown table.

A row is a file of evaluate_perplexity.py, a column a window that it shares with REFERENCE.json. A
cell is the change of the perplexity in percent of the reference's, negative is better, and in
brackets its 95 % percentile bootstrap interval over documents, 10,000 resamples that take the same
documents of both. A change of a single document has no interval.

Files that were not evaluated alike are refused: other documents, protocols, strides or types.
"""

import argparse
import itertools
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error
from e2_common.outputs import OutputFile, check_output
from e2_tools.arguments import command_parser
from e2_tools.evaluation.collection import is_collection
from e2_tools.evaluation.perplexity.results import ALWAYS, read_results
from e2_tools.evaluation.result_file import Results, write_results
from e2_tools.evaluation.table import markdown_table


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("reference", type=Path, metavar="REFERENCE.json", help="what the others are compared with")
    add("others", type=Path, nargs="+", metavar="OTHER.json")
    add("--metric", choices=ALWAYS, default=ALWAYS[0], help="(default: %(default)s)")
    add(
        "--labels",
        nargs="+",
        metavar="NAME",
        help="one a file, the reference's first, in place of the files' own",
    )
    add("--each", action="store_true", help="also a row per document, by its line in the data")
    add("--output", type=OutputFile, metavar="FILE.json", help="write the numbers, too")
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Compare what the command line names and print the table."""
    args = build_parser().parse_args(arguments)
    read = _read([args.reference, *args.others], args.labels)
    from e2_tools.evaluation.perplexity.changes import (  # numpy is slow to import
        ResultFile,
        changes_by_window,
        differences_file,
        names_of_documents,
    )
    from e2_tools.evaluation.perplexity.tables import change_rows

    files = [ResultFile(*each) for each in read]
    reference, *others = files
    changes = [changes_by_window(reference, other, args.metric) for other in others]
    names = names_of_documents(files, changes)
    if args.output:
        check_output(args.output)
        from e2_common.provenance import provenance  # imports torch

        content = differences_file(files, changes, args.metric)
        write_results(args.output, content | {"provenance": provenance()})
    labels = [results["label"] for _, results in read]
    by_label = dict(zip(labels[1:], changes, strict=True))
    print(markdown_table(*change_rows(labels[0], by_label, args.metric, names * args.each)))


def _read(paths: list[Path], labels: list[str] | None) -> list[tuple[Path, Results]]:
    """Read result files, each of its own label."""
    for path in paths:
        if is_collection(path):
            raise UserError(
                f"{path}: is a collection, which has no documents; name the result files that it "
                "was made of"
            )
    if labels and len(labels) != len(paths):
        raise UserError(f"--labels: names {len(labels)} of {len(paths)} files")
    files = [(path, read_results(path)) for path in paths]
    if labels:
        named = zip(files, labels, strict=True)
        files = [(path, results | {"label": label}) for (path, results), label in named]
    for (path, results), (other, later) in itertools.combinations(files, 2):
        if results["label"] == later["label"]:
            raise UserError(
                f"{other}: has the label {later['label']!r}, as {path} has; tell them apart with "
                "--labels"
            )
    return files
