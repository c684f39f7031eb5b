# SPDX-License-Identifier: Apache-2.0
"""Tokenising with tools/preprocess_data.py beside the structure of Megatron-LM's tool.

    python benchmarks/preprocess.py --input text.jsonl --tokenizer DIR [--workers 1 2] [--rounds 3]

Every round runs both sides once at each number of workers, in an order that alternates, and
compares their bytes. Importing and loading is left out: the time that five documents take is
measured the same way and subtracted. Rounds are added to those that --output holds. --profile
shows what the parent of preprocess_data.py does meanwhile. The text must be real: encoders remember
words, so a text that repeats itself flatters them. benchmarks/debian_text.py makes one.

--megatron-lm names a checkout of Megatron-LM, whose tools/preprocess_data_fast.py then runs beside
ours at the largest number of workers; it takes all cores. Both are timed from start to end. It
writes no BOS where Megatron-LM's own preprocess_data.py does, so its bytes are not compared.
"""

import argparse
import itertools
import os
import pstats
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.processes import Measured, check_text, measured, parser_of_text
from e2_common.errors import UserError, exit_on_user_error
from e2_common.files import sha256_of
from e2_common.json_file import read_json_object
from e2_common.outputs import OutputFile, check_output
from e2_common.provenance import provenance, versions
from e2_tools.evaluation.result_file import write_results

SCHEMA = "e2-llm/preprocess-speed/1"
ROOT = Path(__file__).resolve().parents[1]
REFERENCE, OURS = "reference pipeline", "preprocess_data.py"
SIDES = (REFERENCE, OURS)
FAST = "Megatron-LM's preprocess_data_fast.py"
FEW = 5  # documents that show what a start costs


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = parser_of_text(__doc__)
    add = parser.add_argument
    add("--workers", nargs="+", type=int, default=[1, 2], metavar="N", help="default: 1 2")
    add("--rounds", type=int, default=3, metavar="N", help="default: %(default)s")
    add("--megatron-lm", type=Path, metavar="DIR", help="race its fast tool, nothing else")
    add("--profile", action="store_true", help="profile the parent instead, at most workers")
    add("--output", type=OutputFile, metavar="FILE.json", help="add the rounds to this file")
    return parser


@exit_on_user_error
def main() -> None:
    """Run the sides, tell, write."""
    args = build_parser().parse_args()
    for name, value in (("--rounds", args.rounds), ("--workers", min(args.workers))):
        if value < 1:
            raise UserError(f"{name} {value}: must be at least 1")
    check_text(args.input)
    if args.output:
        check_output(args.output)
    if args.profile:
        print(profile(args))
        return
    if args.megatron_lm and not _fast_tool(args).is_file():
        raise UserError(
            f"--megatron-lm {args.megatron_lm}: has no tools/preprocess_data_fast.py; name a "
            "checkout of Megatron-LM of 2026"
        )
    result = begun(args)
    if args.megatron_lm:
        print(race(args, result))
        return
    with tempfile.TemporaryDirectory(dir=args.input.parent) as folder:
        few = Path(folder) / "few.jsonl"
        with args.input.open("rb") as lines:
            few.write_bytes(b"".join(itertools.islice(lines, FEW)))
        for _ in range(args.rounds):
            done = {w: _rounds(result, w) for w in args.workers}
            for workers, side in [
                (w, s) for w in args.workers for s in (SIDES if done[w] % 2 == 0 else SIDES[::-1])
            ]:
                start = run(side, few, args, workers, folder)
                row = run(side, args.input, args, workers, folder)
                result["runs"].append(
                    {"round": done[workers], "side": side, "workers": workers}
                    | {name: getattr(row, name) - getattr(start, name) for name in _TIMES}
                    | {f"start_{name}": getattr(start, name) for name in _TIMES}
                )
                _compare(result, folder)
            if args.output:
                write_results(args.output, result)
    print(table(result))


def _rounds(result: dict[str, Any], workers: int) -> int:
    return sum((row["workers"], row["side"]) == (workers, OURS) for row in result["runs"])


_TIMES = ("seconds", "cpu_seconds", "parent_cpu_seconds")


def command(side: str, source: Path, args: argparse.Namespace, workers: int, out: str) -> list[str]:
    """Return what a side is started with."""
    if side == FAST:
        return [
            *("env", f"PYTHONPATH={args.megatron_lm}", sys.executable, str(_fast_tool(args))),
            *("--input", str(source), "--output-prefix", out, "--use-gigatoken", "--append-eod"),
            *("--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", args.tokenizer),
        ]
    script = "benchmarks/reference_pipeline.py" if side == REFERENCE else "tools/preprocess_data.py"
    ours = ["--tokenizer-type", "HuggingFaceTokenizer", "--append-eod"] if side == OURS else []
    return [
        *(sys.executable, str(ROOT / script), "--input", str(source), "--output-prefix", out),
        *("--tokenizer-model", args.tokenizer, "--workers", str(workers), *ours),
    ]


def _fast_tool(args: argparse.Namespace) -> Path:
    return args.megatron_lm / "tools" / "preprocess_data_fast.py"


def run(side: str, source: Path, args: argparse.Namespace, workers: int, folder: str) -> Measured:
    """Time one side."""
    print(f"{side}, {workers} workers, {source.name}", file=sys.stderr, flush=True)
    return measured(command(side, source, args, workers, f"{folder}/out"))


def profile(args: argparse.Namespace) -> str:
    """Return the parent's time by function, the most first."""
    with tempfile.TemporaryDirectory(dir=args.input.parent) as folder:
        line = command(OURS, args.input, args, max(args.workers), f"{folder}/out")
        stats = f"{folder}/profile"
        measured([line[0], "-m", "cProfile", "-o", stats, *line[1:]])
        with open(f"{folder}/shown", "w") as stream:
            found = pstats.Stats(stats, stream=stream)
            found.strip_dirs().sort_stats("tottime").print_stats(20)
        return Path(f"{folder}/shown").read_text()


def begun(args: argparse.Namespace) -> dict[str, Any]:
    """Return the result to add to, which may be one that was written before."""
    settings = {
        "input_bytes": args.input.stat().st_size,
        "input_sha256": sha256_of(args.input),
        "tokenizer_sha256": sha256_of(Path(args.tokenizer) / "tokenizer.json"),
    }
    if args.output and args.output.exists():
        result = read_json_object(args.output, "name a new file")
        if result.get("schema") != SCHEMA or result["settings"] != settings:
            raise UserError(
                f"--output {args.output}: of another text or tokenizer; name a new file"
            )
        return result
    return {
        "schema": SCHEMA,
        "provenance": provenance(),
        "gigatoken": versions(["gigatoken"]).get("gigatoken"),
        "settings": settings,
        "runs": [],
    }


def _compare(result: dict[str, Any], folder: str) -> None:
    """Check that what was written is what every run wrote."""
    prefix = f"{folder}/out_text_document"
    found = {name: sha256_of(Path(f"{prefix}.{name}")) for name in ("bin", "idx")}
    if result.setdefault("output_sha256", found) != found:
        raise UserError(f"the bytes of {result['runs'][-1]} are not those of the runs before it")
    from e2_common.disk.indexed_dataset import read_index

    index = read_index(prefix)
    result["tokens"], result["documents"] = index.tokens, index.documents
    for name in found:
        os.unlink(f"{prefix}.{name}")


def race(args: argparse.Namespace, result: dict[str, Any]) -> str:
    """Time whole processes of ours and of Megatron-LM's fast tool; return medians in Markdown."""
    result.setdefault("race", [])
    with tempfile.TemporaryDirectory(dir=args.input.parent) as folder:
        for index in range(args.rounds):
            for side in (FAST, OURS) if index % 2 else (OURS, FAST):
                row = run(side, args.input, args, max(args.workers), folder)
                result["race"].append({"side": side} | {n: getattr(row, n) for n in _TIMES})
            if args.output:
                write_results(args.output, result)
    lines = ["| whole process | rounds | seconds | CPU seconds |", "|---|---:|---:|---:|"]
    medians = {}
    for side in (FAST, OURS):
        rows = [row for row in result["race"] if row["side"] == side]
        medians[side] = [statistics.median(row[name] for row in rows) for name in _TIMES[:2]]
        lines.append(f"| {side} | {len(rows)} | {medians[side][0]:.1f} | {medians[side][1]:.1f} |")
    ratio = [fast / ours for fast, ours in zip(medians[FAST], medians[OURS], strict=True)]
    lines += ["", f"ours: {ratio[0]:.2f} times as fast, {ratio[1]:.2f} times by CPU seconds"]
    return "\n".join(lines)


def table(result: dict[str, Any]) -> str:
    """Return the medians in Markdown."""
    megabytes, tokens = result["settings"]["input_bytes"] / 1e6, result["tokens"] / 1e6
    lines = [
        f"{megabytes:.1f} MB, {result['documents']:,} documents, {tokens:.1f} M tokens, "
        "the same bytes in every run",
        "",
        "| workers | side | rounds | seconds | M tokens/s | CPU seconds | M tokens a CPU second | "
        "CPU seconds of the parent |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    ratios = []
    for workers in sorted({row["workers"] for row in result["runs"]}):
        medians = {}
        for side in SIDES:
            rows = [r for r in result["runs"] if (r["workers"], r["side"]) == (workers, side)]
            medians[side] = [statistics.median(row[name] for row in rows) for name in _TIMES]
            seconds, cpu, parent = medians[side]
            lines.append(
                f"| {workers} | {side} | {len(rows)} | {seconds:.1f} | "
                f"{_over(tokens, seconds, 2)} | {cpu:.1f} | {_over(tokens, cpu, 2)} | "
                f"{parent:.1f} |"
            )
        faster, cheaper = (_over(medians[REFERENCE][i], medians[OURS][i], 1) for i in range(2))
        ratios.append(
            f"{workers} workers: {faster} times as fast, "
            f"{cheaper} times as many tokens a CPU second"
        )
    return "\n".join([*lines, "", *ratios])


def _over(one: float, other: float, digits: int) -> str:
    """A quotient; a dash where the text took no longer than the start, which is taken off."""
    return f"{one / other:.{digits}f}" if one > 0 and other > 0 else "-"


if __name__ == "__main__":
    main()
