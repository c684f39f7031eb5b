# SPDX-License-Identifier: Apache-2.0
"""Check a dataset of Megatron's .bin and .idx, and show what it holds."""

import argparse
from collections.abc import Sequence

from e2_common.disk.indexed_dataset import prefix_of, read_index
from e2_common.errors import UserError, exit_on_user_error
from e2_tools.corpus.inspection import (
    check_vocabulary,
    describe,
    is_tiktoken,
    load_tokenizer_at,
    samples,
)
from e2_tools.corpus.tiktoken import add_flags, take_options


def build_parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    parser = argparse.ArgumentParser(
        description="Check that a dataset's .idx and .bin are whole and belong together, and show "
        "its documents, tokens, a histogram of lengths and some documents.",
        epilog="Exit code 2 and one line if it is damaged.",
    )
    parser.add_argument(
        "prefix", metavar="PREFIX", help="path of the dataset, with or without .bin or .idx"
    )
    parser.add_argument(
        "--tokenizer-model",
        metavar="PATH",
        help="the tokenizer that made it (Hugging Face folder, SentencePiece .model or tiktoken "
        ".json): decodes the samples and checks every id against the vocabulary",
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=3,
        metavar="N",
        help="show the beginnings of N documents, evenly spread (default: %(default)s)",
    )
    add_flags(parser)
    return parser


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. Exit codes: 0 whole, 2 damaged or bad flags."""
    args = build_parser().parse_args(argv)
    if args.samples < 0:
        raise UserError(f"--samples {args.samples}: must be at least 0")
    is_json = args.tokenizer_model is not None and is_tiktoken(args.tokenizer_model)
    tiktoken = take_options(vars(args), is_json)
    index = read_index(prefix_of(args.prefix))
    tokenizer = None
    if args.tokenizer_model is not None:
        tokenizer = load_tokenizer_at(args.tokenizer_model, tiktoken)
        check_vocabulary(index, tokenizer, args.tokenizer_model)
    print(f"{index.prefix}: whole")
    for line in (*describe(index), *samples(index, args.samples, tokenizer)):
        print(line)
