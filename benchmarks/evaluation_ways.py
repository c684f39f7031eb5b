# SPDX-License-Identifier: Apache-2.0
"""One evaluation asked in two ways, in turn: how long each takes, and whether the answers agree.

    python benchmarks/evaluation_ways.py --second=--no-shared-prefill \\
        passkey --model DIR --windows 2048 --trials 4
    python benchmarks/evaluation_ways.py --first="--dtype fp32" --second="--dtype bf16" \\
        ruler --model DIR --windows 2048 --trials 5 --tasks niah_single_1 vt

Everything runs in this process, the loading of the model too. Times are CPU times without a GPU,
where other processes count little in them (OMP_NUM_THREADS=1 is best), else wall-clock times.
"""

import argparse
import importlib
import json
import shlex
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from e2_common.errors import exit_on_user_error
from e2_common.files import atomic_file
from e2_common.json_file import write_json
from e2_common.outputs import OutputFile
from e2_tools.arguments import command_parser, count_argument

SCHEMA = "e2-llm/evaluation-ways/1"
TESTS = ("passkey", "needle", "recall", "ruler")


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--first", type=shlex.split, default=[], metavar="FLAGS", help="of one way, a single word")
    add("--second", type=shlex.split, default=[], metavar="FLAGS", help="of the other way")
    add("--rounds", type=count_argument, default=3, metavar="N", help="of both (default: 3)")
    add("--output", type=OutputFile, metavar="FILE.json", help="of this benchmark")
    add("test", choices=TESTS, help="evaluate_TEST.py")
    add("flags", nargs=argparse.REMAINDER, help="its flags, without --output")
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Ask both ways; print a Markdown table."""
    args = build_parser().parse_args(arguments)
    from e2_common.provenance import provenance

    row = measure(args)
    if args.output:
        with atomic_file(args.output) as temporary:
            write_json(temporary, {"schema": SCHEMA, **row, "provenance": provenance()})
    print(table(row))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Ask in both ways, in turn."""
    import torch

    command = importlib.import_module(f"e2_tools.commands.evaluate_{args.test}").main
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    ways = {"first": args.first, "second": args.second}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cells: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds):
            for name in list(ways)[:: 1 if number % 2 else -1]:
                output = Path(folder) / f"{name}.json"
                started = clock()
                command([*args.flags, *ways[name], "--output", str(output)])
                seconds[name].append(clock() - started)
                cells[name] = json.loads(output.read_text())["results"]
    medians = {name: statistics.median(spent) for name, spent in seconds.items()}
    pairs = list(zip(cells["first"], cells["second"], strict=True))
    return {
        "ways": {name: shlex.join(flags) for name, flags in ways.items()},
        "seconds": seconds,
        "median_seconds": medians,
        "ratio": medians["second"] / medians["first"],
        "trials": sum(cell["trials"] for cell in cells["first"]),
        "correct": {name: sum(cell["correct"] for cell in own) for name, own in cells.items()},
        "cells": len(pairs),
        "equal_scores": sum(a["accuracy"] == b["accuracy"] for a, b in pairs),
        "equal_answers": sum(a["wrong"] == b["wrong"] for a, b in pairs),
    }


def table(row: dict[str, Any]) -> str:
    """Return the measurement as Markdown."""
    lines = ["| flags | seconds, median | right |", "| --- | ---: | ---: |"]
    lines += [
        f"| `{flags or 'none'}` | {row['median_seconds'][name]:.2f} | "
        f"{row['correct'][name]:g} of {row['trials']} |"
        for name, flags in row["ways"].items()
    ]
    told = f"{row['equal_scores']} scores and the wrong answers of {row['equal_answers']} equal"
    return "\n".join([*lines, "", f"ratio {row['ratio']:.2f}; of {row['cells']} cells {told}"])


if __name__ == "__main__":
    main()
