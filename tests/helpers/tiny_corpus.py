# SPDX-License-Identifier: Apache-2.0
"""Texts, tokenizers trained on them, and what Megatron makes of both."""

import json
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

HUGGING_FACE = "HuggingFaceTokenizer"
SENTENCE_PIECE = "SentencePieceTokenizer"

# From the Gettysburg Address (1863), public domain.
SPEECH = (
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, "
    "conceived in Liberty, and dedicated to the proposition that all men are created equal. "
    "Now we are engaged in a great civil war, testing whether that nation, or any nation so "
    "conceived and so dedicated, can long endure. We are met on a great battle-field of that war. "
    "We have come to dedicate a portion of that field, as a final resting place for those who "
    "here gave their lives that that nation might live. It is altogether fitting and proper."
)
TEXTS = [
    SPEECH,
    "We are met.",
    "",
    "Привет, мир! 日本語のテキスト 🎉 — naïve",
    "tabs\tand\nlines\r\nand  two spaces \u2028 <eos> end ",
    *(SPEECH[i : i + 90] for i in range(0, 400, 7)),
]


def save_hugging_face(path: Path, eos: str | None, begin: bool = False) -> str:
    """Train a byte-level BPE of at most 300 ids on SPEECH; return its folder."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator([SPEECH], trainer)
    if begin:
        model.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<s>", eos_token=eos).save_pretrained(
        path
    )
    return str(path)


def save_sentence_piece(path: Path, eos_id: int) -> str:
    """Train a SentencePiece model on SPEECH; return its file."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SPEECH.split(". ")),
        model_prefix=str(path),
        vocab_size=320,
        byte_fallback=True,
        eos_id=eos_id,
        num_threads=1,
        minloglevel=2,
    )
    return f"{path}.model"


def write_jsonl(path: Path, texts: list[str], key: str = "text") -> str:
    path.write_text("".join(json.dumps({"id": 1, key: t}) + "\n" for t in texts), encoding="utf-8")
    return str(path)


def arguments(inputs, prefix, kind_and_path, *more) -> list[str]:
    kind, path = kind_and_path
    inputs = [inputs] if isinstance(inputs, str) else inputs
    return [
        *("--input", *inputs, "--output-prefix", str(prefix)),
        *("--tokenizer-type", kind, "--tokenizer-model", path, *more),
    ]


def read_documents(prefix: Path) -> list[list[list[int]]]:
    """Documents of sequences of ids, as Megatron reads them."""
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    dataset = IndexedDataset(str(prefix))
    ends = dataset.document_indices.tolist()
    return [
        [dataset[i].tolist() for i in range(first, last)]
        for first, last in zip(ends[:-1], ends[1:], strict=True)
    ]


def output_bytes(prefix: Path) -> tuple[bytes, bytes]:
    return Path(f"{prefix}.bin").read_bytes(), Path(f"{prefix}.idx").read_bytes()


def reference_encode(kind_and_path):
    """(text -> ids, EOS id) straight from the tokenizer's own library."""
    kind, path = kind_and_path
    if kind == HUGGING_FACE:
        model = AutoTokenizer.from_pretrained(path)
        return lambda text: model(text)["input_ids"], model.eos_token_id
    model = sentencepiece.SentencePieceProcessor(model_file=path)
    return model.encode, model.eos_id()


def reference_bytes(folder: Path, documents, dtype) -> tuple[bytes, bytes]:
    """The .bin and .idx that Megatron's own builder writes, fed one document at a time.

    ``documents`` yields for each document its ids, or None if it has none.
    """
    import numpy as np
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    prefix = folder / "reference"
    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
    for ids in documents:
        builder.add_document(np.array(ids or [], dtype), [len(ids)] if ids else [])
    builder.finalize(f"{prefix}.idx")
    result = output_bytes(prefix)
    for suffix in ("bin", "idx"):
        Path(f"{prefix}.{suffix}").unlink()
    return result
