# SPDX-License-Identifier: Apache-2.0
"""Plot perplexity by window from result files of evaluate_perplexity.py, a line per file."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron_patches.errors import UserError, exit_on_user_error
from tools.evaluation.results import METRICS, check_output, differences, read_results
from tools.evaluation.seeds import over_seeds
from tools.evaluation.table import by_label, markdown_table


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("results", type=Path, nargs="+", metavar="RESULTS.json")
    add("--output", type=Path, required=True, metavar="FILE.png")
    add("--title", metavar="T")
    add("--metric", choices=METRICS, default="perplexity", help="(default: perplexity)")
    add("--table", action="store_true", help="also print a Markdown table")
    add(
        "--seeds",
        action="store_true",
        help="files of one label are one run under several seeds: draw their mean and a band from "
        "the least to the largest, tabulate mean ± standard deviation",
    )
    add("--train-window", type=int, metavar="R", help="trained window to mark, in tokens")
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Draw what the command line asks for."""
    args = build_parser().parse_args(arguments)
    if args.output.suffix.lower() != ".png":
        raise UserError(f"--output {args.output}: is drawn as PNG; let the name end in .png")
    if args.train_window is not None and args.train_window < 1:
        raise UserError(f"--train-window {args.train_window}: a window has at least 1 token")
    runs = [(path, read_results(path)) for path in args.results]
    files = over_seeds(runs) if args.seeds else by_label(runs)
    check_output(args.output)
    for setting in differences([results for _, results in runs], args.metric):
        print(f"note: these files differ in {setting}: do not compare them", file=sys.stderr)

    from tools.evaluation.plots import draw, save_png  # matplotlib is slow to import

    save_png(draw(files, args.metric, args.title, args.train_window), args.output)
    if args.table:
        print(markdown_table(files, args.metric))


if __name__ == "__main__":
    main()
