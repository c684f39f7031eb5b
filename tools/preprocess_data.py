# SPDX-License-Identifier: Apache-2.0
"""Tokenise JSON-lines text into the .bin and .idx files that Megatron trains from.

Runs without a GPU. The files are the ones Megatron-LM's tool of this name writes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import os
import signal
from collections.abc import Sequence

from megatron_patches.errors import exit_on_user_error
from tools.corpus.preprocess import Options, preprocess
from tools.corpus.tokenizer import TOKENIZER_TYPES


def build_parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    parser = argparse.ArgumentParser(
        description="Tokenise JSON-lines text into Megatron's .bin and .idx files.",
        epilog="Writes PREFIX_<key>_document.bin and .idx for each key.",
    )
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="FILE",
        help=".jsonl or .jsonl.gz files, one JSON object a line; taken in the order given",
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
        help="a Hugging Face tokenizer's local folder, or a SentencePiece .model file",
    )
    parser.add_argument(
        "--json-keys",
        nargs="+",
        default=["text"],
        metavar="KEY",
        help="keys whose strings to tokenise, each into a dataset of its own (default: text)",
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
    return parser


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; print what was written.

    Exit codes: 0 done, 2 bad input or flags, 130 interrupted. Nothing is written unless 0.
    """
    args = build_parser().parse_args(argv)
    # A scheduler ends a job with SIGTERM: leave as little behind as after Ctrl-C.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        summary = preprocess(Options(**vars(args)))
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, previous)
    print(summary)


if __name__ == "__main__":
    main()
