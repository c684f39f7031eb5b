# SPDX-License-Identifier: Apache-2.0
"""Measure a Hugging Face model by RULER: scores by task and window, and the effective window.

Prompts, answer prefixes, answer lengths and scores equal those of NVIDIA/RULER under the same seed.
The effective window is the largest up to which every mean over the tasks exceeds 85.6 percent.
"""

import argparse
from pathlib import Path

from e2_common.errors import exit_on_user_error
from e2_tools.arguments import command_parser
from e2_tools.evaluation.retrieval.arguments import add_cell_arguments, add_chat_argument
from e2_tools.evaluation.ruler.tasks import TASKS
from e2_tools.evaluation.ruler.text import SENTENCES


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add_cell_arguments(
        parser, output="ruler.json", seed=42, seeded="of all draws, RULER's --random_seed"
    )
    add = parser.add_argument
    add(
        "--tasks",
        nargs="+",
        choices=list(TASKS),
        metavar="TASK",
        help=f"{', '.join(TASKS)} (default: all whose files are named)",
    )
    add_chat_argument(parser)
    files = parser.add_argument_group("files of tasks").add_argument
    files(
        "--haystack",
        type=Path,
        metavar="FILE",
        help="the text of the six tasks in essays: RULER's PaulGrahamEssays.json, or any text "
        "(.jsonl: the text of each object)",
    )
    files(
        "--sentences",
        choices=SENTENCES,
        help="where sentences of the haystack end: by NLTK's Punkt, as in RULER, or behind the "
        "marks . ! ? (default: punkt)",
    )
    files("--squad", type=Path, metavar="FILE.json", help="SQuAD's dev-v2.0.json, for qa_1")
    files(
        "--hotpotqa",
        type=Path,
        metavar="FILE.json",
        help="HotpotQA's hotpot_dev_distractor_v1.json, for qa_2",
    )
    files(
        "--english-words",
        type=Path,
        metavar="FILE.json",
        help="RULER's english_words.json, for cwe in windows of about 128k and more",
    )
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Run the evaluation of the command line and print its table."""
    args = build_parser().parse_args(arguments)
    from e2_tools.evaluation.ruler.run import evaluate  # torch and transformers take seconds

    print(evaluate(args))
