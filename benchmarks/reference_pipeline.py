# SPDX-License-Identifier: Apache-2.0
"""The structure of Megatron-LM's tool, against which preprocess_data.py is timed.

A pool of processes takes lines in chunks of 32, parses each, encodes its text by itself and sends
the ids back as a list of numbers; the parent alone adds them to megatron-core's builder. It has
only what benchmarks/preprocess.py needs: to tokenise a corpus use tools/preprocess_data.py.
"""

import argparse
import json
import multiprocessing
from typing import Any

from e2_tools.corpus.quiet import quiet_imports
from e2_tools.corpus.tokenizer import HUGGING_FACE, load_megatron_tokenizer

CHUNK = 32  # lines sent to a worker at a time

tokenizer: Any = None


def begin_worker(path: str) -> None:
    """Load the tokenizer in a worker."""
    global tokenizer
    tokenizer = load_megatron_tokenizer(HUGGING_FACE, path)


def encode(line: str) -> list[int]:
    """Return the ids of a line's text, with the end of the document behind them."""
    ids = tokenizer.encode(json.loads(line)["text"])
    if ids:
        ids.append(tokenizer.eod)
    return ids


def main() -> None:
    """Write PREFIX_text_document.bin and .idx."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output-prefix", required=True)
    parser.add_argument("--tokenizer-model", required=True)
    parser.add_argument("--workers", type=int, required=True)
    args = parser.parse_args()
    with quiet_imports():
        from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    dtype = load_megatron_tokenizer(HUGGING_FACE, args.tokenizer_model).dtype
    prefix = f"{args.output_prefix}_text_document"
    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
    with (
        open(args.input, encoding="utf-8") as lines,
        multiprocessing.Pool(args.workers, begin_worker, (args.tokenizer_model,)) as pool,
    ):
        for ids in pool.imap(encode, lines, CHUNK):
            builder.add_document(ids, [len(ids)] if ids else [])
        pool.close()
        pool.join()
    builder.finalize(f"{prefix}.idx")


if __name__ == "__main__":
    main()
