# SPDX-License-Identifier: Apache-2.0
"""Measure whether a Hugging Face model finds a pass key in a window full of filler.

Each cell of windows x depths asks for --trials random keys; an answer is right if its first number
is the key. The prompt fills the window, less the ten tokens of the answer.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron_patches.errors import exit_on_user_error
from tools.evaluate_perplexity import count_argument, scale_argument


def depth_argument(text: str) -> float:
    """Parse a depth in percent, 0 to 100."""
    try:
        depth = float(text)
    except ValueError:
        depth = -1.0
    if not 0 <= depth <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage from 0 to 100")
    return depth


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="Hugging Face model folder")
    add("--windows", type=count_argument, nargs="+", required=True, metavar="N", help="in tokens")
    add("--output", type=Path, required=True, metavar="passkey.json", help="rewritten per cell")
    add(
        "--depths",
        type=depth_argument,
        nargs="+",
        default=[float(depth) for depth in range(0, 101, 10)],
        metavar="D",
        help="of the key, in percent of the filler (default: 0 10 ... 100)",
    )
    add("--trials", type=count_argument, default=10, metavar="N", help="keys a cell (default: 10)")
    add("--seed", type=int, default=0, help="of the keys (default: 0)")
    add("--heat-map", type=Path, metavar="FILE.png", help="draw the accuracies")
    add(
        "--scale",
        type=scale_argument,
        default="auto",
        help="RoPE scale g: auto, ceil(window / base window); none, the model's own RoPE; or a "
        "number for all windows (default: auto)",
    )
    add("--batch-size", type=count_argument, default=1, metavar="B", help="prompts at once")
    add("--dtype", choices=["fp32", "bf16"], default="fp32", help="(default: fp32)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    add("--label", metavar="NAME", help="for the picture (default: the model folder's name)")
    add(
        "--resume",
        action="store_true",
        help="keep the cells in the output, if made with the same settings (and model)",
    )
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Run the evaluation of the command line and print its table."""
    args = build_parser().parse_args(arguments)
    args.depths = list(dict.fromkeys(args.depths))
    from tools.evaluation.passkey.run import evaluate  # torch and transformers take seconds

    print(evaluate(args))


if __name__ == "__main__":
    main()
