# SPDX-License-Identifier: Apache-2.0
"""Every position method on every parallel layout, from one checkpoint: do the losses agree?

    python benchmarks/exactness.py --output docs/exactness.md [--methods e2 yarn] [--steps 10]
        [--keep FILE.json]

Trains a tiny Llama (4 layers, fp32) in one torchrun world of four CPU ranks and writes tables of
the largest relative difference of any step's loss from TP1's (data parallel only). The last row is
a run stopped half-way, saved, and resumed at TP2×PP2; its draws have to be those of TP1.
"""

import tempfile
import textwrap
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error
from e2_common.files import atomic_file
from e2_common.json_file import read_json_object, write_json
from e2_common.outputs import OutputFile
from e2_common.progress import progress_bar
from e2_tools.arguments import command_parser
from tests.distributed.layouts import HARDEST, LAYOUTS, METHOD_FLAGS
from tests.distributed.world import LOADING_ALONE, TINY_MODEL, TINY_TRAINING, run_world

WIDTH = 5  # methods a table: with all of them a line would be wider than a page


@exit_on_user_error
def main() -> None:
    """Run the grid and write the table."""
    parser = command_parser(__doc__)
    parser.add_argument("--output", type=OutputFile, required=True, help="Markdown file to write")
    parser.add_argument("--methods", nargs="+", choices=METHOD_FLAGS, default=list(METHOD_FLAGS))
    parser.add_argument("--steps", type=int, default=10, help="training steps of each run")
    parser.add_argument(
        "--keep",
        type=OutputFile,
        metavar="FILE.json",
        help="keep finished methods there, and go on from what it holds; each takes a minute",
    )
    args = parser.parse_args()
    from tests.distributed.corpus import make_corpus

    grid = {**LAYOUTS, "VPP, TP2+SP, full recompute": HARDEST}
    rows = dict.fromkeys(grid, 0) | {"stopped at TP1, resumed as TP2×PP2": args.steps // 2}
    columns = kept(args.keep, args.steps, len(rows))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = folder / "start"
        common = [*TINY_MODEL, *TINY_TRAINING, *LOADING_ALONE, *make_corpus(folder)]
        first = [*common, "--position-method", "none", "--save", str(start)]
        run_world(4, [("start", [*first, "--save-interval", "10"])], folder / "world-start")
        tune = [*common, "--finetune", "--load", str(start), "--no-load-optim", "--no-load-rng"]
        tune += ["--train-iters", str(args.steps)]
        # A world for each method, so that progress is seen.
        left = [method for method in args.methods if method not in columns]
        for method in progress_bar(len(left), "method", iterable=left):
            runs = [
                (layout, [*tune, *METHOD_FLAGS[method], *flags]) for layout, flags in grid.items()
            ]
            runs += resumed_runs(METHOD_FLAGS[method], args.steps, folder / method, common, tune)
            results = run_world(4, runs, folder / f"world-{method}", timeout=120 + 20 * len(runs))
            require_same_draws(method, results)
            reference = results["TP1"]["losses"]
            columns[method] = [
                worst(results[run]["losses"], reference[begin:])
                for run, begin in zip([*grid, "resumed"], rows.values(), strict=True)
            ]
            if args.keep:
                with atomic_file(args.keep) as temporary:
                    write_json(temporary, {"steps": args.steps, "columns": columns})
    columns = {method: columns[method] for method in args.methods}
    tables = []
    for at in range(0, len(columns), WIDTH):
        some = dict(list(columns.items())[at : at + WIDTH])
        lines = [
            f"| layout | {' | '.join(f'`{method}`' for method in some)} |",
            "| --- |" + " ---: |" * len(some),
        ]
        for name, cells in zip(rows, zip(*some.values(), strict=True), strict=True):
            lines.append(f"| {name} | {' | '.join(cells)} |")
        tables.append("\n".join(lines))
    flags = [
        textwrap.fill(
            f"- `{method}`: `{' '.join(METHOD_FLAGS[method])}`",
            width=100,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for method in columns
    ]
    command = f"python benchmarks/exactness.py --output docs/exactness.md --steps {args.steps}"
    text = PAGE.format(
        command=command, steps=args.steps, table="\n\n".join(tables), flags="\n".join(flags)
    )
    with atomic_file(args.output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


def kept(path: Path | None, steps: int, rows: int) -> dict[str, list[str]]:
    """The columns of methods that finished before.

    Raises:
        UserError: the file is of other runs.
    """
    if path is None or not path.exists():
        return {}
    content = read_json_object(path, "remove it")
    columns = content.get("columns")
    whole = isinstance(columns, dict) and all(len(cells) == rows for cells in columns.values())
    if not whole or content.get("steps") != steps:
        raise UserError(f"--keep {path}: holds other runs than these of {steps} steps; remove it")
    return columns


def worst(losses: list[float], reference: list[float]) -> str:
    """The largest relative difference of two runs' losses."""
    largest = max(abs(a / b - 1) for a, b in zip(losses, reference, strict=True))
    return f"{largest:.1e}" if largest else "0"


def resumed_runs(
    method: list[str], steps: int, saved: Path, common: list[str], tune: list[str]
) -> list[tuple[str, list[str]]]:
    """Two runs: TP1 up to the middle, saved; the rest at TP2×PP2."""
    half = str(steps // 2)
    optimizer = ["--use-distributed-optimizer", "--dist-ckpt-optim-fully-reshardable"]
    stop = ["--save", str(saved), "--save-interval", half, "--exit-interval", half]
    rest = ["--train-iters", str(steps), "--load", str(saved), *LAYOUTS["TP2×PP2"]]
    return [
        ("stopped", [*tune, *method, *optimizer, *stop]),
        ("resumed", [*common, *method, *optimizer, *rest]),
    ]


def require_same_draws(method: str, results: dict) -> None:
    """Check that the resumed run goes on with the draws of the uninterrupted one.

    Raises:
        UserError: it does not.
    """
    four_models = sorted(map(str, sum(results["TP1"]["draws"], [])))
    stopped = sum(results["stopped"]["draws"], [])
    one_model = results["resumed"]["draws"][0]  # all four ranks are one model
    if sorted(map(str, stopped + one_model)) != four_models:
        raise UserError(f"{method}: resumed under another layout, it draws otherwise")


PAGE = """# Exactness under parallelism

Every method trains {steps} steps from one checkpoint on every layout. The tables show the largest
relative difference of a step's loss from the first row's; 0 means that all digits are equal.

The model is a tiny Llama (4 layers, hidden size 64, grouped queries) in fp32, with a global batch
of 8, on four CPU ranks with gloo. Ranks that tensor and pipeline parallelism leave over are data
parallel. The run of the last row stops half-way and goes on under another layout, with its
optimizer state resharded. Its draws were those of the uninterrupted run, for every method.

    {command}

{table}

{flags}
"""

if __name__ == "__main__":
    main()
