# SPDX-License-Identifier: Apache-2.0
"""Put the results of a run onto one HTML page: a summary, tables, pictures, training curves.

Checkpoints stand beside each other, each in its colour. What was not measured is said, with the
command that would measure it. Takes every result file of the evaluate commands and every
TensorBoard folder below RUN_DIR. The page is a single file that opens without a network and runs no
script.
"""

import argparse
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error
from e2_common.files import atomic_file
from e2_common.outputs import OutputFile, check_output
from e2_tools.arguments import command_parser


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("run_dir", type=Path, metavar="RUN_DIR", help="folder that holds the results")
    add("--output", type=OutputFile, metavar="FILE.html", help="(default: RUN_DIR/report.html)")
    add("--title", metavar="T", help="(default: the folder's name)")
    add(
        "--order",
        nargs="+",
        metavar="NAME",
        help="names of checkpoints in the order of columns and colours, the one before first "
        "(default: those that no position method trained, then the others, by their files)",
    )
    add(
        "--seeds",
        action="store_true",
        help="perplexities of one label are one run under several seeds: show their mean and range",
    )
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Write the page of the command line."""
    args = build_parser().parse_args(arguments)
    output = args.output or args.run_dir / "report.html"
    if output.suffix.lower() != ".html":
        raise UserError(f"--output {output}: is a page; let the name end in .html")

    from e2_tools.reporting.collect import collect  # matplotlib and TensorBoard are slow to import
    from e2_tools.reporting.page import render
    from e2_tools.reporting.sections import sections_of

    run = collect(args.run_dir)
    check_output(output)
    files = sum(map(len, run.results.values()))
    subtitle = f"{_count(files, 'result file')}, {_count(len(run.events), 'training run')}"
    sections = sections_of(run, order=args.order, seeds=args.seeds)
    page = render(args.title or args.run_dir.resolve().name, subtitle, sections)
    with atomic_file(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    print(f"report: {output}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)
