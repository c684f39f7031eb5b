# SPDX-License-Identifier: Apache-2.0
"""preprocess_data.py --loss-mask-key: which tokens count, from spans of characters."""

import json
import shutil

import numpy as np
import pytest
import sentencepiece
from transformers import AutoTokenizer

from e2_tools.commands.merge_datasets import main as merge
from e2_tools.commands.preprocess_data import main
from tests.helpers.commands import refused
from tests.helpers.tiny_corpus import (
    HUGGING_FACE,
    SENTENCE_PIECE,
    SPEECH,
    TEXTS,
    arguments,
    output_bytes,
    read_documents,
    save_hugging_face,
    save_sentence_piece,
    write_jsonl,
)

MASKED = ("--loss-mask-key", "loss_spans")


def random_spans(text, random):
    """Spans apart from each other that may touch either end of the text."""
    cuts = np.unique(random.randint(0, len(text) + 1, 6)).tolist()
    return [[begin, end] for begin, end in zip(cuts[::2], cuts[1::2], strict=False)]


@pytest.fixture(scope="module")
def records():
    random = np.random.RandomState(0)
    return [{"text": text, "loss_spans": random_spans(text, random)} for text in TEXTS] + [
        {"text": SPEECH, "loss_spans": [[0, len(SPEECH)]]},
        {"text": SPEECH, "loss_spans": []},
        {"text": "a 🎉 b", "loss_spans": [[2, 3]]},
    ]


@pytest.fixture
def source(records, tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "with BOS"])
def tokenizer(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    return HUGGING_FACE, save_hugging_face(folder, "<eos>", begin=request.param)


def expected_mask(pieces, text, spans):
    """By bytes: a byte-level BPE spells each byte of a text as one character of its tokens."""
    counts = [False] * len(text.encode())
    for begin, end in spans:
        first = len(text[:begin].encode())
        for index in range(first, first + len(text[begin:end].encode())):
            counts[index] = True
    # Every byte of a character that counts, if any does: they already do.
    mask, at = [], 0
    for piece in pieces:
        length = 0 if piece == "<s>" else len(piece.encode()) if piece == "<eos>" else len(piece)
        mask.append(int(any(counts[at : at + length])))
        at += length
    assert at == len(counts)
    return mask


def test_tokens_of_the_spans_count(records, source, tokenizer, tmp_path):
    main(arguments(source, tmp_path / "out", tokenizer, "--workers", "2", *MASKED))
    model = AutoTokenizer.from_pretrained(tokenizer[1])
    tokens = read_documents(tmp_path / "out_text_document")
    masks = read_documents(tmp_path / "out_text_document_loss_mask")
    assert len(tokens) == len(masks) == len(records)
    for record, ids, mask in zip(records, tokens, masks, strict=True):
        if ids:
            pieces = model.convert_ids_to_tokens(ids[0])
            assert mask == [expected_mask(pieces, record["text"], record["loss_spans"])]
        else:
            assert mask == []


def test_the_tokens_are_those_without_a_mask(source, tokenizer, tmp_path):
    main(arguments(source, tmp_path / "plain", tokenizer, "--append-eod"))
    main(arguments(source, tmp_path / "masked", tokenizer, "--append-eod", *MASKED))
    plain, masked = (
        output_bytes(tmp_path / f"{name}_text_document") for name in ("plain", "masked")
    )
    assert plain == masked
    mask = np.fromfile(tmp_path / "masked_text_document_loss_mask.bin", np.uint8)
    assert set(mask.tolist()) == {0, 1}


def test_the_end_counts_of_a_text_that_ends_with_what_counts(records, source, tokenizer, tmp_path):
    main(arguments(source, tmp_path / "out", tokenizer, "--append-eod", *MASKED))
    masks = read_documents(tmp_path / "out_text_document_loss_mask")
    ends = [bool(mask) and mask[0][-1] for mask in masks]
    assert ends == [
        bool(mask) and bool(spans) and spans[-1][1] == len(record["text"])
        for mask, record in zip(masks, records, strict=True)
        for spans in [record["loss_spans"]]
    ]
    assert True in ends
    assert False in ends


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("We are met on a great battle-field of that war.", [[7, 13], [40, 47]]),
        ("We 日本 are 🎉 met", [[4, 5], [10, 11]]),  # spelt in bytes
        ("naïve men", [[2, 3], [8, 9]]),
    ],
)
def test_sentence_piece(text, spans, tmp_path):
    kind = SENTENCE_PIECE, save_sentence_piece(tmp_path / "sp", eos_id=2)
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": text, "loss_spans": spans}) + "\n")
    main(arguments(str(tmp_path / "in.jsonl"), tmp_path / "out", kind, *MASKED))
    model = sentencepiece.SentencePieceProcessor(model_file=kind[1])
    counts = [any(b <= i < e for b, e in spans) for i, c in enumerate(text) for _ in c.encode()]
    at, expected = -1, []  # before the text stands a space of the model's own
    for piece in model.encode(text, out_type=str):
        length = 1 if piece.startswith("<0x") else len(piece.replace("▁", " ").encode())
        expected.append(int(any(counts[max(at, 0) : at + length])))
        at += length
    assert at == len(counts)
    assert read_documents(tmp_path / "out_text_document_loss_mask") == [[expected]]


def test_masks_merge_as_datasets_do(source, tokenizer, tmp_path):
    main(arguments(source, tmp_path / "whole", tokenizer, *MASKED))
    for part in ("0/2", "1/2"):
        main(arguments(source, tmp_path / "part", tokenizer, *MASKED, "--shard", part))
    parts = [f"{tmp_path}/part_0000{i}-of-00002_text_document_loss_mask.idx" for i in range(2)]
    merge([*parts, "--output-prefix", f"{tmp_path}/joined_text_document_loss_mask"])
    assert output_bytes(f"{tmp_path}/joined_text_document_loss_mask") == output_bytes(
        f"{tmp_path}/whole_text_document_loss_mask"
    )


def test_the_mask_of_an_earlier_run_goes_with_its_dataset(source, tokenizer, tmp_path):
    main(arguments(source, tmp_path / "out", tokenizer, *MASKED))
    mask = [tmp_path / f"out_text_document_loss_mask{suffix}" for suffix in (".bin", ".idx")]
    assert all(path.exists() for path in mask)
    main(arguments(source, tmp_path / "out", tokenizer, *MASKED))
    assert all(path.exists() for path in mask)
    main(arguments(source, tmp_path / "out", tokenizer))
    assert not any(path.exists() for path in mask)
    main(arguments(source, tmp_path / "out", tokenizer, *MASKED))
    main(arguments(source, tmp_path / "plain", tokenizer))
    merge([f"{tmp_path}/plain_text_document", "--output-prefix", f"{tmp_path}/out_text_document"])
    assert not any(path.exists() for path in mask)


def test_a_masked_and_an_unmasked_dataset_merge_with_a_mask(source, tokenizer, tmp_path, capsys):
    main(arguments(source, tmp_path / "masked", tokenizer, *MASKED))
    main(arguments(source, tmp_path / "plain", tokenizer))
    names = [f"{tmp_path}/{name}_text_document" for name in ("plain", "masked", "plain")]
    shutil.copy(names[0] + ".bin", f"{tmp_path}/third.bin")
    shutil.copy(names[0] + ".idx", f"{tmp_path}/third.idx")
    merge([*names[:2], f"{tmp_path}/third", "--output-prefix", f"{tmp_path}/joined"])
    assert "with a loss mask" in capsys.readouterr().out
    masked = read_documents(f"{names[1]}_loss_mask")
    ones = [[[1] * len(ids) for ids in document] for document in read_documents(names[0])]
    assert read_documents(f"{tmp_path}/joined_loss_mask") == [*ones, *masked, *ones]


@pytest.mark.parametrize(
    "spans",
    [[[3, 2]], [[0, 4], [3, 5]], [[0, 999]], [[0]], [[0.5, 2]], "0-3", None, [[-1, 2]], [[2, 2]]],
)
def test_wrong_spans_are_named(spans, tokenizer, tmp_path, capfd):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"text": "Four score", "loss_spans": spans}) + "\n")
    command = arguments(str(source), tmp_path / "out", tokenizer, *MASKED)
    refused(
        capfd,
        ["in.jsonl, line 1", "'loss_spans'", "[begin, end]"],
        main,
        command,
        untouched=tmp_path,
    )


def test_what_cannot_go_together(source, tokenizer, tmp_path, capfd):
    plain = write_jsonl(tmp_path / "plain.jsonl", ["Four"])
    command = arguments(plain, tmp_path / "out", tokenizer, *MASKED)
    refused(capfd, ["plain.jsonl, line 1", "--loss-mask-key"], main, command, untouched=tmp_path)
    for more in (["--json-keys", "text", "other"], ["--encoder", "gigatoken"]):
        command = arguments(source, tmp_path / "out", tokenizer, *MASKED, *more)
        refused(capfd, ["--loss-mask-key loss_spans", more[0]], main, command, untouched=tmp_path)
