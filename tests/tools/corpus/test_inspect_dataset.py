# SPDX-License-Identifier: Apache-2.0
"""What is shown of a dataset, and one clear line for every way in which it can be damaged."""

import struct
from pathlib import Path

import numpy as np
import pytest

from e2_common.disk import indexed_dataset as index
from e2_common.errors import UserError
from e2_tools.commands import preprocess_data
from e2_tools.commands.inspect_dataset import main
from e2_tools.corpus import inspection
from tests.helpers.commands import refused
from tests.helpers.tiny_corpus import (
    TEXTS,
    arguments,
    reference_encode,
    write_jsonl,
)
from tests.tools.corpus.test_merge_datasets import write_dataset

HEADER = 34


@pytest.fixture
def corpus(tmp_path, tokenizers_by_name):
    """(prefix, tokenizer's path) of TEXTS."""
    chosen = tokenizers_by_name["hf"]
    source = write_jsonl(tmp_path / "in.jsonl", TEXTS)
    preprocess_data.main(arguments(source, tmp_path / "out", chosen, "--workers", "1"))
    return str(tmp_path / "out_text_document"), chosen[1]


def test_counts_histogram_and_samples(corpus, tokenizers_by_name, capsys):
    prefix, tokenizer = corpus
    capsys.readouterr()
    main([f"{prefix}.bin", "--tokenizer-model", tokenizer, "--samples", "2"])
    lines = capsys.readouterr().out.splitlines()
    encode, _ = reference_encode(tokenizers_by_name["hf"])
    lengths = [len(encode(text)) for text in TEXTS]
    assert lines[0] == f"{prefix}: whole"
    assert lines[1] == f"documents  {len(TEXTS)} (1 of them empty)"
    assert lines[2] == f"tokens     {sum(lengths):,} (uint16)"
    assert f"longest {max(lengths)} tokens (document {np.argmax(lengths)})" in lines[3]
    rows = lines[5:-2]
    assert sum(int(row.split()[3]) for row in rows) == len(TEXTS)
    assert rows[0].split()[:4] == ["0", "-", "0", "1"]
    assert lines[-2].startswith(f"document 0 ({lengths[0]} tokens): 'Four score and seven")
    assert lines[-2].endswith(" ...")
    middle = len(TEXTS) // 2
    assert lines[-1].startswith(
        f"document {middle} ({lengths[middle]} tokens): '{TEXTS[middle][:8]}"
    )


def test_a_sentencepiece_model_decodes(tmp_path, tokenizers_by_name, capsys):
    chosen = tokenizers_by_name["sp"]
    source = write_jsonl(tmp_path / "in.jsonl", ["We are met."])
    preprocess_data.main(arguments(source, tmp_path / "out", chosen, "--workers", "1"))
    main([str(tmp_path / "out_text_document"), "--tokenizer-model", chosen[1]])
    assert "tokens): 'We are met.'" in capsys.readouterr().out


def test_histogram_rows():
    rows = list(inspection.histogram(np.array([1, 2, 3, 4, 7, 8, 1000])))
    assert [int(row.split()[0]) for row in rows[1:]] == [2**i for i in range(10)]
    assert [int(row.split()[3]) for row in rows[1:]] == [1, 2, 2, 1, 0, 0, 0, 0, 0, 1]
    assert rows[2].endswith("#" * inspection.BAR_CHARACTERS)
    assert rows[5].endswith("%  ")


def test_without_tokenizer_and_of_an_empty_dataset(tmp_path, capsys):
    main([write_dataset(tmp_path / "a", [[1, 2], [], [3]])])
    assert "document 0 (2 tokens): [1, 2]" in capsys.readouterr().out
    main([write_dataset(tmp_path / "b", [])])
    assert "documents  0 (0 of them empty)" in capsys.readouterr().out


def test_every_damage_is_named(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(index, "_CHUNK", 2)  # so that the checks cross from chunk to chunk
    documents = [[1, 2], [], [3], [4, 5, 6], [7]]
    sequences = 4
    lengths, pointers, starts = HEADER, HEADER + 4 * sequences, HEADER + 12 * sequences
    prefix = write_dataset(tmp_path / "a", documents)
    index_path, data_path = Path(f"{prefix}.idx"), Path(f"{prefix}.bin")
    whole, data = index_path.read_bytes(), data_path.read_bytes()
    other = Path(write_dataset(tmp_path / "b", [[1, 2], [3]]) + ".idx").read_bytes()

    def patched(offset: int, form: str, value: int) -> bytes:
        return whole[:offset] + struct.pack(form, value) + whole[offset + struct.calcsize(form) :]

    for damaged, culprits in (
        (whole[:-3], [".idx: damaged", "bytes, not the"]),
        (whole + b"\0", [".idx: damaged", "bytes, not the"]),
        (whole[:20], [".idx: damaged", "does not begin"]),
        (b"", [".idx: damaged", "does not begin"]),
        (b"x" + whole[1:], [".idx: damaged", "does not begin"]),
        (patched(9, "<Q", 2), [".idx: damaged", "version 2"]),
        (patched(17, "<B", 77), [".idx: damaged", "type code 77"]),
        (patched(17, "<B", 4), [".idx: damaged", "sequence 1 does not begin"]),
        (patched(18, "<Q", 1 << 60), [".idx: damaged", "bytes, not the"]),
        (patched(lengths + 12, "<i", 9), [".bin: damaged", "14 bytes, not the 30"]),
        (patched(lengths, "<i", -1), [".idx: damaged", "negative"]),
        (patched(pointers + 16, "<q", 2), [".idx: damaged", "sequence 2 does not begin"]),
        (patched(pointers, "<q", 2), [".idx: damaged", "sequence 0 does not begin"]),
        (patched(starts, "<q", 1), [".idx: damaged", "do not cover"]),
        (patched(starts + 8 * 5, "<q", 3), [".idx: damaged", "do not cover"]),
        (patched(starts + 8 * 2, "<q", 4), [".idx: damaged", "ends before it begins"]),
        (other, [".bin: damaged", "not a pair"]),
    ):
        index_path.write_bytes(damaged)
        refused(capfd, culprits, main, [prefix], untouched=tmp_path)
    index_path.write_bytes(whole)
    for damaged in (data[:-1], data + b"\0\0", b""):
        data_path.write_bytes(damaged)
        refused(capfd, [".bin: damaged", "not a pair"], main, [prefix], untouched=tmp_path)
    data_path.write_bytes(data)
    assert index.read_index(prefix).documents == 5
    data_path.unlink()
    refused(capfd, [f"{prefix}.bin: no such file"], main, [prefix], untouched=tmp_path)


def test_bad_flags(corpus, tmp_path, capfd, tokenizers_by_name):
    prefix, tokenizer = corpus
    refused(capfd, ["--samples -1"], main, [prefix, "--samples", "-1"], untouched=tmp_path)
    line = [prefix, "--tokenizer-model", "/no/such"]
    refused(capfd, ["/no/such", "no such file"], main, line, untouched=tmp_path)
    small = inspection.Tokenizer(None, None, 50)
    with pytest.raises(UserError, match="beyond the vocabulary of 50"):
        inspection.check_vocabulary(index.read_index(prefix), small, "x")
