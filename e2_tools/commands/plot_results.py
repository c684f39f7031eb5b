# SPDX-License-Identifier: Apache-2.0
"""Draw result files as PNG, and as Markdown tables with --table.

  window      perplexity by window, a line per file of evaluate_perplexity.py
  retrieval   share of a retrieval test's questions that are answered, by window, a line per file
  depth       the same by window and depth (of RULER by task), a heat map a label; of several seeds
              their mean
  attention   share of the attention on the first or the last tokens, by window, a line per file of
              plot_attention.py
  iterations  LongBench means by training iteration, a point per summary.json of
              evaluate_longbench.py score
  ablation    LongBench means of variants, a group of bars per summary.json

Without --kind the first file decides: perplexities, retrieval and attention are drawn by window,
LongBench by iteration.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from e2_common.errors import UserError, exit_on_user_error
from e2_common.json_file import read_json_object
from e2_common.outputs import OutputFile, check_output, same_file
from e2_tools.arguments import check_png, command_parser, flag_of
from e2_tools.evaluation.attention import by_window as attention
from e2_tools.evaluation.collection import (
    is_collection,
    kind_of_collection,
    read_collection,
    write_collection,
)
from e2_tools.evaluation.longbench import summaries as longbench
from e2_tools.evaluation.longbench.origin import KINDS
from e2_tools.evaluation.perplexity.results import METRICS, differences, read_results
from e2_tools.evaluation.perplexity.seeds import over_seeds
from e2_tools.evaluation.perplexity.tables import perplexity_rows
from e2_tools.evaluation.result_file import Results
from e2_tools.evaluation.retrieval.by_window import (
    ERROR,
    METRIC,
    effective_windows,
    is_retrieval,
    is_ruler,
    percent_rows,
    read_by_window,
)
from e2_tools.evaluation.retrieval.by_window import differences as retrieval_differences
from e2_tools.evaluation.table import by_label, markdown_table, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Table = tuple[list[str], list[list[str]]]
# What only one kind of picture has a use for.
OWN_FLAGS = {
    "window": ("metric", "seeds", "train_window", "intervals", "collect", "palette"),
    "retrieval": ("seeds", "train_window", "collect", "palette"),
    "depth": (),
    "attention": ("metric", "seeds", "train_window", "collect", "palette"),
    "iterations": ("iterations",),
    "ablation": (),
}


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("results", type=Path, nargs="+", metavar="RESULTS.json")
    add("--output", type=OutputFile, required=True, metavar="FILE.png")
    add("--kind", choices=list(OWN_FLAGS), help="(default: by the first file)")
    add("--title", metavar="T")
    add("--labels", nargs="+", metavar="NAME", help="one a file, in place of the files' own")
    add("--table", action="store_true", help="also print a Markdown table")
    window = parser.add_argument_group("window").add_argument
    window(
        "--metric",
        choices=[*METRICS, *attention.METRICS],
        help=f"(default: {METRICS[0]}, of attention {attention.METRICS[0]})",
    )
    window(
        "--intervals",
        action="store_true",
        help="draw and tabulate the 95 %% intervals over documents",
    )
    window(
        "--seeds",
        action="store_true",
        help="files of one label are one run under several seeds: draw their mean and a band from "
        "the least to the largest, tabulate mean ± standard deviation",
    )
    window(
        "--collect",
        type=OutputFile,
        metavar="FILE.json",
        help="write what is drawn into one compact file, which can be drawn in place of the others",
    )
    window(
        "--palette",
        nargs="+",
        metavar="NAME",
        help="labels in the order in which they take colours and marks, whichever of them are "
        "drawn: the same for all pictures of a study (default: in the order of the files)",
    )
    window("--train-window", type=int, metavar="R", help="trained window to mark, in tokens")
    parser.add_argument_group("iterations").add_argument(
        "--iterations",
        type=int,
        nargs="+",
        metavar="N",
        help="one a file (default: what the exported model's config.json says)",
    )
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Draw what the command line asks for."""
    args = build_parser().parse_args(arguments)
    check_png("--output", args.output)
    kind = args.kind or kind_of(args.results[0])
    for flag in sorted({flag for flags in OWN_FLAGS.values() for flag in flags}):
        kinds = [other for other, flags in OWN_FLAGS.items() if flag in flags]
        if kind not in kinds and getattr(args, flag) not in (None, False):
            raise UserError(
                f"{flag_of(flag)}: is for --kind {' or '.join(kinds)}, this is {kind}; drop it"
            )
    figure, table = _PICTURES[kind](args)
    from e2_tools.plotting import save_png  # matplotlib is slow to import

    save_png(figure, args.output)
    if args.table:
        print(markdown_table(*table))


def kind_of(path: Path) -> str:
    """Return what a file is drawn as by default; who reads it says what may be wrong with it."""
    try:
        is_of_many = is_collection(path)
        schema = kind_of_collection(path) if is_of_many else json.loads(path.read_bytes())["schema"]
    except (OSError, ValueError, KeyError, TypeError):
        schema = None
    if is_retrieval(schema):
        return "retrieval"
    return {longbench.SCHEMA: "iterations", attention.SCHEMA: "attention"}.get(schema, "window")


def by_window(args: argparse.Namespace) -> tuple["Figure", Table]:
    """Draw perplexity by window."""
    metric = _metric(args, METRICS)
    if args.seeds and args.intervals:
        raise UserError("--intervals: are over documents, --seeds shows a range; drop one")
    runs, files = _runs(args, read_results, METRICS)
    for setting in differences([results for _, results in runs], metric):
        print(f"note: these files differ in {setting}: do not compare them", file=sys.stderr)
    from e2_tools.evaluation.perplexity.plots import draw
    from e2_tools.plotting import Looks

    looks = Looks(args.palette or ())
    figure = draw(files, metric, args.title, args.train_window, args.intervals, looks)
    return figure, perplexity_rows(files, metric, args.intervals)


def by_retrieval(args: argparse.Namespace) -> tuple["Figure", Table]:
    """Draw the share of answered questions by window."""
    runs, files = _runs(args, read_by_window, (METRIC, ERROR))
    _note_differences(runs, of_seeds=args.seeds)
    from e2_tools.evaluation.perplexity.plots import draw
    from e2_tools.plotting import Looks

    figure = draw(files, METRIC, args.title, args.train_window, looks=Looks(args.palette or ()))
    head, rows = percent_rows(files)
    if all(map(is_ruler, files.values())):
        from e2_tools.evaluation.ruler.score import THRESHOLD

        figure.axes[0].axhline(THRESHOLD / 100, color="#999999", linewidth=1, linestyle="--")
        head = [*head, "effective"]
        rows = [[*row, window] for row, window in zip(rows, effective_windows(files), strict=True)]
    return figure, (head, rows)


def by_depth(args: argparse.Namespace) -> tuple["Figure", Table]:
    """Draw the share of answered questions by window and depth."""
    if any(map(is_collection, args.results)):
        raise UserError("--kind depth: a collection has no depths; name the result files")
    runs, files = _runs(args, read_by_window, (METRIC, ERROR))
    if len({"tasks" in results for _, results in runs}) > 1:
        raise UserError(
            "--kind depth: RULER, BABILong and MRCR have tasks instead of depths; draw these apart"
        )
    _note_differences(runs, of_seeds=True)
    cells = [
        read_json_object(path, "evaluate again") | {"label": results["label"]}
        for path, results in runs
    ]
    from e2_tools.evaluation.retrieval.results import draw_by_depth

    return draw_by_depth(cells, args.title), percent_rows(files)


def _note_differences(runs: list[tuple[Path, Results]], *, of_seeds: bool) -> None:
    """Say in which settings results of retrieval tests differ; seeds may be meant to."""
    for setting in retrieval_differences([results for _, results in runs]):
        if not (of_seeds and setting == "seed"):
            print(f"note: these files differ in {setting}: do not compare them", file=sys.stderr)


def by_attention(args: argparse.Namespace) -> tuple["Figure", Table]:
    """Draw the share of the attention on a few tokens by window."""
    metric = _metric(args, attention.METRICS)
    runs, files = _runs(args, attention.read_by_window, attention.METRICS)
    for setting in attention.differences([results for _, results in runs]):
        print(f"note: these files differ in {setting}: do not compare them", file=sys.stderr)
    from e2_tools.evaluation.perplexity.plots import draw
    from e2_tools.plotting import Looks

    looks = Looks(args.palette or ())
    figure = draw(files, metric, args.title, args.train_window, looks=looks)
    return figure, percent_rows(files, metric)


def _metric(args: argparse.Namespace, metrics: tuple[str, ...]) -> str:
    """The metric to draw, one of the kind's own."""
    metric = args.metric or metrics[0]
    if metric not in metrics:
        raise UserError(f"--metric {metric}: these files have {' and '.join(metrics)}")
    return metric


def _runs(
    args: argparse.Namespace, read: Callable[[Path], Results], metrics: tuple[str, ...]
) -> tuple[list[tuple[Path, Results]], dict[str, Results]]:
    """The result files, and what is drawn of them: label -> results."""
    if args.train_window is not None and args.train_window < 1:
        raise UserError(f"--train-window {args.train_window}: a window has at least 1 token")
    runs: list[tuple[Path, Results]] = []
    of_many = args.seeds or args.kind == "depth"
    for path in args.results:
        runs += read_collection(path) if is_collection(path) else [(path, read(path))]
    if args.labels and len(args.labels) != len(runs):
        raise UserError(f"--labels: names {len(args.labels)} of {len(runs)} files")
    if args.labels:
        named = zip(runs, args.labels, strict=True)
        runs = [(path, results | {"label": label}) for (path, results), label in named]
    if of_many:
        _check_named_once(args.results, runs)
    files = over_seeds(runs, metrics) if of_many else by_label(runs)
    for path in filter(None, (args.output, args.collect)):
        check_output(path)
    if args.collect:
        write_collection(args.collect, runs, metrics)
    return runs, files


def _check_named_once(named: list[Path], runs: list[tuple[Path, Results]]) -> None:
    """Refuse a file that would count as several runs of its label; collections have none."""
    given = [(path, results["label"]) for path, results in runs if path in named]
    for (path, label), (other, same) in itertools.combinations(given, 2):
        if label == same and same_file(path, other):
            raise UserError(f"{path}: is named twice, which makes no second run; name it once")


def of_longbench(args: argparse.Namespace, kind: str) -> tuple["Figure", Table]:
    """Draw LongBench means by iteration or by variant."""
    if args.labels and len(args.labels) != len(args.results):
        raise UserError(f"--labels: names {len(args.labels)} of {len(args.results)} files")
    summaries = [longbench.read_summary(path) for path in args.results]
    if args.labels:
        named = zip(summaries, args.labels, strict=True)
        summaries = [summary._replace(label=label) for summary, label in named]
    if kind == "iterations":
        summaries = longbench.with_iterations(summaries, args.iterations)
    means = longbench.common_means(summaries)
    if (kind_of_records := KINDS[longbench.common_kind(summaries)]) is not KINDS["longbench"]:
        print(f"note: {kind_of_records.title}. {kind_of_records.about}", file=sys.stderr)
    for setting in longbench.differences(summaries):
        print(f"note: these files differ in {setting}: do not compare them", file=sys.stderr)
    check_output(args.output)
    from e2_tools.evaluation.longbench import plots

    draw = {"iterations": plots.draw_iterations, "ablation": plots.draw_ablation}[kind]
    names = [str(each.iteration) if kind == "iterations" else each.label for each in summaries]
    rows = [[name, *map(number, row)] for name, *row in zip(names, *means.values(), strict=True)]
    return draw(summaries, args.title), ([kind.removesuffix("s"), *means], rows)


_PICTURES = {
    "window": by_window,
    "retrieval": by_retrieval,
    "depth": by_depth,
    "attention": by_attention,
    "iterations": partial(of_longbench, kind="iterations"),
    "ablation": partial(of_longbench, kind="ablation"),
}
