# SPDX-License-Identifier: Apache-2.0
"""The memory that tools/preprocess_data.py needs, by the size of its input.

    python benchmarks/preprocess_memory.py --input text.jsonl --tokenizer DIR [--gigabytes 1 5]

Real text is repeated up to each size, with a counter before every document so that no line is
another's copy, and tokenised. The peak is that of the sum over all processes of their proportional
set sizes, looked at ten times a second.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.processes import check_text, measured, parser_of_text
from e2_common.errors import UserError, exit_on_user_error
from e2_common.outputs import OutputFile, check_output
from e2_common.progress import progress_bar
from e2_common.provenance import provenance
from e2_tools.evaluation.result_file import write_results

SCHEMA = "e2-llm/preprocess-memory/1"
_BEGINS = b'{"text": "'
ROOT = Path(__file__).resolve().parents[1]


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = parser_of_text(__doc__)
    add = parser.add_argument
    add("--gigabytes", nargs="+", type=float, default=[1, 5], metavar="GB", help="default: 1 5")
    add("--workers", type=int, default=2, metavar="N", help="default: %(default)s")
    add("--output", type=OutputFile, metavar="FILE.json", help="also write what was measured there")
    return parser


@exit_on_user_error
def main() -> None:
    """Measure each size, tell, write."""
    args = build_parser().parse_args()
    check_text(args.input)
    if min(args.gigabytes) <= 0:
        raise UserError(f"--gigabytes {min(args.gigabytes):g}: must be above 0")
    if args.output:
        check_output(args.output)
    free = shutil.disk_usage(args.input.parent).free
    need = int(2 * max(args.gigabytes) * 1e9)  # input, and ids of two bytes
    if free < need:
        raise UserError(f"{args.input.parent}: {need / 1e9:.0f} GB needed, {free / 1e9:.0f} free")
    rows = [measure(args, gigabytes) for gigabytes in args.gigabytes]
    result = {"schema": SCHEMA, "provenance": provenance(), "runs": rows}
    print(table(rows))
    if args.output:
        write_results(args.output, result)


def measure(args: argparse.Namespace, gigabytes: float) -> dict[str, Any]:
    """Tokenise so much text."""
    with tempfile.TemporaryDirectory(dir=args.input.parent) as folder:
        source = Path(folder) / "in.jsonl"
        size = repeat(args.input, source, int(gigabytes * 1e9))
        command = [
            *(sys.executable, str(ROOT / "tools/preprocess_data.py"), "--input", str(source)),
            *("--output-prefix", f"{folder}/out", "--append-eod", "--workers", str(args.workers)),
            *("--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", args.tokenizer),
        ]
        found = measured(command, memory=True)
    return {
        "input_bytes": size,
        "workers": args.workers,
        "peak_bytes": found.peak_bytes,
        "seconds": found.seconds,
        "summary": found.output.split(" Files:")[0].strip(),
    }


def repeat(source: Path, target: Path, size: int) -> int:
    """Write at least ``size`` bytes of JSON lines out of another file; return how many."""
    written = number = 0
    bar = progress_bar(size, "B", delay=2)
    with target.open("wb") as stream, bar:
        while written < size:
            begin = written
            with source.open("rb") as lines:
                for line in lines:
                    number += 1
                    if not line.startswith(_BEGINS):  # other keys, or blanks elsewhere
                        text = json.loads(line)["text"]
                        line = json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n"
                    count = stream.write(b"%s%d %s" % (_BEGINS, number, line[len(_BEGINS) :]))
                    written += count
                    bar.update(count)
                    if written >= size:
                        break
            if written == begin:
                raise UserError(f"--input {source}: holds no documents")
    return written


def table(rows: list[dict[str, Any]]) -> str:
    """Return the peaks in Markdown."""
    lines = ["| input | workers | peak memory | seconds |", "|---:|---:|---:|---:|"]
    for row in rows:
        lines.append(
            f"| {row['input_bytes'] / 1e9:.2f} GB | {row['workers']} | "
            f"{row['peak_bytes'] / 2**20:.0f} MiB | {row['seconds']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
