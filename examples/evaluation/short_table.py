# SPDX-License-Identifier: Apache-2.0
"""Compare two outputs of lm-eval, before and after, task by task.

    python examples/evaluation/short_table.py --before DIR --after DIR --output FILE.json

DIR is lm-eval's --output_path, written with --log_samples. Prints scores in percent with their
standard errors; that of a difference is over the differences of the questions. tools/report.py
takes the file.
"""

import argparse
from pathlib import Path

from e2_common.errors import exit_on_user_error
from e2_common.outputs import OutputFile, check_output
from e2_common.provenance import provenance
from e2_tools.arguments import command_parser
from e2_tools.evaluation.result_file import write_results
from e2_tools.evaluation.short import compare, conditions, read_run, rows
from e2_tools.evaluation.table import aligned_text


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    for name in ("before", "after"):
        add(f"--{name}", type=Path, required=True, metavar="DIR", help="what lm-eval wrote")
        add(f"--{name}-label", metavar="NAME", default=name, help=f"(default: {name})")
    add("--output", type=OutputFile, required=True, metavar="FILE.json")
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Write the file of the command line and print its table."""
    args = build_parser().parse_args(arguments)
    labels = (args.before_label, args.after_label)
    if labels[0] == labels[1]:
        labels = (f"{labels[0]}, before", f"{labels[1]}, after")
    content = compare(read_run(args.before), read_run(args.after), labels)
    check_output(args.output)
    write_results(args.output, content | {"provenance": provenance()})
    head, table = rows(content)
    print(aligned_text([head, *table], left=1))
    print(conditions(content))


if __name__ == "__main__":
    main()
