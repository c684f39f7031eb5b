# SPDX-License-Identifier: Apache-2.0
"""A tiny corpus and tokenizer for training tests, made on the spot."""

import random

import numpy as np
from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = 254


def make_tokenizer(folder):
    """A word-level tokenizer of 256 tokens; a sentence ends with every 16th of them."""
    words = {f"w{index}{'' if index % 16 else '.'}": index + 2 for index in range(WORDS)}
    vocab = {"<eos>": 0, "<unk>": 1} | words
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = folder / "tokenizer"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(path)
    return path


def write_dataset(prefix, documents, dtype=np.uint16):
    """Write documents, lists of ids, as an indexed dataset."""
    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
    for document in documents:
        builder.add_document(document, [len(document)])
    builder.finalize(f"{prefix}.idx")


def make_corpus(folder, documents=40, length=400, turn=None):
    """Write an indexed dataset and a tokenizer; returns the Megatron arguments that name them.

    With ``turn`` a loss mask lies beside it, that changes every so many tokens.
    """
    rng = random.Random(0)
    prefix = folder / "corpus"
    texts = []
    for _ in range(documents):
        # A Markov-like walk, so that there is something to learn.
        word, words = rng.randrange(WORDS), []
        for _ in range(length):
            word = (word * 5 + rng.choice((1, 2, 3))) % WORDS
            words.append(word + 2)
        texts.append([*words, 0])
    write_dataset(prefix, texts)
    if turn:
        masks = [[1 - place // turn % 2 for place in range(len(text))] for text in texts]
        write_dataset(f"{prefix}_loss_mask", masks, np.uint8)
    tokenizer = make_tokenizer(folder)
    return [
        *("--data-path", str(prefix), "--split", "80,20,0"),
        *("--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", str(tokenizer)),
        *("--data-cache-path", str(folder / "cache")),
    ]
