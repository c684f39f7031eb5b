# SPDX-License-Identifier: Apache-2.0
"""The objective of search.txt for every method of three files of `plot_results.py --collect`.

    python examples/position_methods/objective.py LANGUAGE.json NOISE.json SPANS.json

J = the mean over the first file's windows of the log of the perplexity + the mean over the windows
of the other two of the share of wrong answers.
"""

import math
from collections import defaultdict
from pathlib import Path
from statistics import mean

from e2_common.errors import UserError, exit_on_user_error
from e2_tools.arguments import command_parser
from e2_tools.evaluation.collection import read_collection


@exit_on_user_error
def main() -> None:
    """Parse the command line and print the table."""
    parser = command_parser(__doc__)
    for name in ("language", "noise", "spans"):
        parser.add_argument(name, type=Path, help="file of plot_results.py --collect")
    args = parser.parse_args()
    nats = by_label(args.language, lambda row: math.log(row["perplexity"]))
    wrong = [by_label(path, lambda row: 1 - row["accuracy"]) for path in (args.noise, args.spans)]
    rows = []
    for label, language in nats.items():
        if any(label not in kind for kind in wrong):
            raise UserError(f"{args.noise}, {args.spans}: have no results of {label!r}")
        share = mean(kind[label] for kind in wrong)
        rows.append((language + share, label, language, share))
    print("| method | J | nats a token | share wrong |\n| --- | ---: | ---: | ---: |")
    for objective, label, language, share in sorted(rows):
        print(f"| {label} | {objective:.3f} | {language:.3f} | {share:.3f} |")


def by_label(path: Path, value) -> dict[str, float]:
    """The mean over windows and runs of a value of each row, by the label of the run."""
    values = defaultdict(list)
    for _, results in read_collection(path):
        try:
            values[results["label"]] += [value(row) for row in results["results"]]
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: has no {error} in its rows") from error
    return {label: mean(each) for label, each in values.items()}


if __name__ == "__main__":
    main()
