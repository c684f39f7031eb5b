# SPDX-License-Identifier: Apache-2.0
"""Tokenise text into the .bin and .idx files that Megatron trains from.

Runs without a GPU. The files are the ones Megatron-LM's tool of this name writes.
"""

import argparse
import os
from collections.abc import Sequence

from e2_common.errors import exit_on_user_error
from e2_tools.corpus.broken import SKIP, STOP
from e2_tools.corpus.fast import AUTO, ENCODERS
from e2_tools.corpus.preprocess import Options, preprocess
from e2_tools.corpus.tiktoken import TIKTOKEN, add_flags, take_options
from e2_tools.corpus.tokenizer import TOKENIZER_TYPES


def build_parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    parser = argparse.ArgumentParser(
        description="Tokenise text into the .bin and .idx files that Megatron trains from, byte "
        "for byte those of Megatron-LM's tool of this name.",
        epilog="Writes PREFIX_<key>_document.bin and .idx for each key. See docs/data.md.",
    )
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="FILE",
        help="files or glob patterns, taken in the order given (those of a pattern by name), or "
        "`-` for JSON lines on standard input: .parquet (a document a row), .txt (a document a "
        "file), else JSON lines (one object a line); .gz, .zst and .xz are decompressed",
    )
    parser.add_argument(
        "--output-prefix",
        required=True,
        metavar="PREFIX",
        help="start of the output paths, folder included; the folder is made if need be",
    )
    parser.add_argument(
        "--tokenizer-type",
        required=True,
        choices=TOKENIZER_TYPES,
        help="the tokenizer's library",
    )
    parser.add_argument(
        "--tokenizer-model",
        required=True,
        metavar="PATH",
        help="a Hugging Face tokenizer's local folder, a SentencePiece .model file, or the .json "
        "file of a tiktoken vocabulary",
    )
    parser.add_argument(
        "--json-keys",
        nargs="+",
        default=["text"],
        metavar="KEY",
        help="keys, or columns of Parquet, whose strings to tokenise, each into a dataset of "
        "its own (default: text)",
    )
    parser.add_argument(
        "--loss-mask-key",
        metavar="KEY",
        help="key of the spans [[begin, end], ...] of characters whose tokens count in the loss; "
        "writes PREFIX_<key>_document_loss_mask beside the dataset (see docs/data.md)",
    )
    parser.add_argument(
        "--append-eod",
        action="store_true",
        help="end each document with the tokenizer's EOS token, so that training sees the end",
    )
    parser.add_argument(
        "--split-sentences",
        action="store_true",
        help="make each sentence a sequence of its own (PREFIX_<key>_sentence); "
        "needs NLTK's punkt_tab data",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes that tokenise (default: the number of cores, here %(default)s)",
    )
    parser.add_argument(
        "--encoder",
        choices=ENCODERS,
        default=AUTO,
        help="auto (default): gigatoken for Hugging Face tokenizers if installed and giving the "
        "same ids on the first documents, else the tokenizer's own library, the reference",
    )
    parser.add_argument(
        "--on-error",
        choices=(STOP, SKIP),
        default=STOP,
        help="what a broken record does: stop the run, nothing written (default), or skip: it is "
        "left out and counted; a damaged file or a full disk always stops",
    )
    parser.add_argument(
        "--shard",
        metavar="i/N",
        help="do only part i of N, i from 0 to N - 1, of about the same size; the output is then "
        "PREFIX_<i>-of-<N>_<key>_document, and tools/merge_datasets.py joins the parts",
    )
    add_flags(parser)
    return parser


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; print what was written.

    Exit codes: 0 done, 2 bad input or flags, 130 interrupted. Nothing is written unless 0.
    """
    flags = vars(build_parser().parse_args(argv))
    tiktoken = take_options(flags, flags["tokenizer_type"] == TIKTOKEN)
    summary = preprocess(Options(**flags, tiktoken=tiktoken))
    print(summary)
