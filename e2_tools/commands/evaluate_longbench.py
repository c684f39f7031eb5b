# SPDX-License-Identifier: Apache-2.0
"""Run LongBench v1 by its published protocol: answer its questions, score the answers.

``predict`` writes DIR/<task>.jsonl and goes on where it stopped when started again. ``score``
writes LongBench's own result.json beside them, and summary.json with the means of the E2-LLM
paper (EN over 14 tasks, ZH over 4, All over those 18), the model and its training iteration.
"""

import argparse
import sys
from pathlib import Path

from e2_common.errors import exit_on_user_error
from e2_common.outputs import OutputFolder
from e2_tools.arguments import command_parser, count_argument
from e2_tools.evaluation.arguments import (
    AUTO,
    add_model_arguments,
    add_shared_prefill_argument,
)


def length_argument(text: str) -> int:
    """Parse ``--max-length``: at least 2, a token on either side of the cut."""
    length = count_argument(text)
    if length < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is below 2")
    return length


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_predict(commands.add_parser("predict", help="answer the questions with a model"))
    score = commands.add_parser("score", help="score answers")
    score.add_argument(
        "--predictions", type=Path, required=True, metavar="DIR", help="with <task>.jsonl files"
    )
    score.add_argument("--e", action="store_true", help="LongBench-E: scores by bucket of length")
    score.add_argument(
        "--label",
        metavar="NAME",
        help="for plots: give checkpoints of one run one name (default: the model folder's)",
    )
    return parser


def _add_predict(parser: argparse.ArgumentParser) -> None:
    # LongBench's own runs are bf16.
    add_model_arguments(
        parser, dtype="bf16", auto=AUTO.format("(prompt + answer)") + ", for each request"
    )
    add = parser.add_argument
    add("--data-dir", type=Path, required=True, metavar="DIR", help="with <task>.jsonl files")
    add(
        "--max-length",
        type=length_argument,
        required=True,
        metavar="N",
        help="of a prompt in tokens; LongBench uses the window less 500 or so: 3500, 7500, "
        "15500, 31500",
    )
    add("--output", type=OutputFolder, required=True, metavar="DIR", help="for <task>.jsonl files")
    add("--tasks", nargs="+", metavar="TASK", help="(default: all that --data-dir has)")
    add("--e", action="store_true", help="LongBench-E: read <task>_e.jsonl")
    add(
        "--chat",
        choices=["none", "llama2", "template"],
        default="none",
        help="around the prompts of all tasks but few-shot and code: nothing, [INST] as LongBench "
        "for Llama 2, or the tokenizer's chat template (default: none)",
    )
    add("--backend", choices=["transformers", "vllm"], default="transformers")
    add(
        "--batch-size",
        type=count_argument,
        metavar="B",
        help="prompts of like length at once (default: 1; vllm 64)",
    )
    add_shared_prefill_argument(parser, default=False)
    add("--limit", type=count_argument, metavar="N", help="only the first N records of each task")


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Run the command of the command line."""
    args = build_parser().parse_args(arguments)
    # torch, transformers and jieba take seconds to import: only where they are needed
    if args.command == "predict":
        from e2_tools.evaluation.longbench.predict import predict

        for path in predict(args):
            print(path)
        return
    from e2_tools.evaluation.longbench.score import (
        doubts,
        score_folder,
        score_table,
        write_scores,
    )

    scores, origins, errors = score_folder(args.predictions, longbench_e=args.e)
    write_scores(
        args.predictions, scores, origins, errors=errors, longbench_e=args.e, label=args.label
    )
    for doubt in doubts(origins):
        print(f"note: {doubt}", file=sys.stderr)
    print(score_table(scores, origins, longbench_e=args.e))
