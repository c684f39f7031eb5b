# SPDX-License-Identifier: Apache-2.0
"""Change the window that an exported model serves: two numbers of its config.json.

The linear RoPE factor becomes g = max(1, window / L), with L the pre-trained window; a factor that
the model had before stays in it. The tokenizer's limit and whatever else repeats the window follow.
The weights stay as they are: E2-LLM trains one model for all windows.
"""

import argparse
from pathlib import Path

from e2_common.errors import exit_on_user_error
from e2_tools.arguments import command_parser


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(__doc__)
    parser.add_argument("model", type=Path, metavar="MODEL_DIR", help="folder with a config.json")
    parser.add_argument(
        "--window", type=int, required=True, metavar="N", help="window to serve, in tokens"
    )
    parser.add_argument(
        "--base-window",
        type=int,
        metavar="L",
        help="window that the model serves with the RoPE it has, in tokens, where its files leave "
        "that open or are wrong",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would change, change nothing"
    )
    return parser


@exit_on_user_error
def main() -> None:
    """Parse the command line, then rewrite config.json."""
    args = build_parser().parse_args()
    # Imported late: the arithmetic of positions lives beside torch, --help should not wait for it.
    from e2_tools.checkpoint.set_window import set_window

    print(set_window(args.model, args.window, args.dry_run, args.base_window))
