# SPDX-License-Identifier: Apache-2.0
"""Join datasets of Megatron's .bin and .idx into one, such as the parts of --shard."""

import argparse
from collections.abc import Sequence

from e2_common.errors import exit_on_user_error
from e2_tools.corpus.merge import merge


def build_parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    parser = argparse.ArgumentParser(
        description="Join datasets into one by copying bytes: what one run of preprocess_data.py "
        "over all of their text would have written.",
    )
    parser.add_argument(
        "datasets",
        nargs="+",
        metavar="PREFIX",
        help="datasets in the order to join them, each by its path without suffix or by its .bin "
        "or .idx, so that a shell pattern will do: data/corpus_*-of-00008_text_document.idx",
    )
    parser.add_argument(
        "--output-prefix",
        required=True,
        metavar="PREFIX",
        help="path of the dataset to write, without .bin or .idx",
    )
    return parser


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; print what was written.

    Exit codes: 0 done, 2 bad input or flags, 130 interrupted. Nothing is written unless 0.
    """
    args = build_parser().parse_args(argv)
    merged = merge(args.datasets, args.output_prefix)
    print(
        f"Joined {merged.datasets:,} datasets: {merged.documents:,} documents, "
        f"{merged.tokens:,} tokens ({merged.dtype})" + ", with a loss mask" * merged.loss_mask
    )
