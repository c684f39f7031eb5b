# SPDX-License-Identifier: Apache-2.0
"""Every kind of input gives the bytes of Megatron's builder; every broken one is named."""

import gzip
import io
import json
import lzma
import sys
from pathlib import Path

import numpy as np
import pytest

from e2_common.errors import UserError
from e2_tools.commands.preprocess_data import main
from e2_tools.corpus import compression, reader, spill
from e2_tools.corpus.inputs import Piece, find_sources, whole
from tests.helpers.commands import refused
from tests.helpers.tiny_corpus import (
    SPEECH,
    TEXTS,
    arguments,
    output_bytes,
    reference_bytes,
    reference_encode,
    write_jsonl,
)

CODE = 'def f(x):\n\treturn {"a": [x, -1e-9]}  # \\n \\u0000 "quoted"\r\n\n\n    pass\n'
CHINESE = "子曰：「學而時習之，不亦說乎？有朋自遠方來，不亦樂乎？人不知而不慍，不亦君子乎？」"
EDGES = [
    "",
    " ",
    "\n",
    "\x00",
    "\ufeffafter a byte order mark",
    "e\u0301 and \u00e9",  # the same letter, decomposed and composed
    "\u202eright to left\u202c \u200b\u200d zero width",
    "👩‍👩‍👧‍👦🏳️‍🌈",
    "\U0010ffff\uffff\u0085\u2029",
    "<s><eos> [INST]",
    "a" * 3000,
    " " * 500,
]
DOCUMENTS = [*TEXTS[:9], CHINESE, CODE, *EDGES, CHINESE * 40, CODE * 40, SPEECH]


def expected(folder, chosen, texts, eod=True) -> tuple[bytes, bytes]:
    encode, eos = reference_encode(chosen)
    documents = (encode(text) for text in texts)
    return reference_bytes(
        folder, (ids + [eos] * eod if ids else None for ids in documents), np.uint16
    )


def zstandard_bytes(data: bytes) -> bytes:
    return pytest.importorskip("zstandard").compress(data)


COMPRESS = {".gz": gzip.compress, ".zst": zstandard_bytes, ".xz": lzma.compress}


@pytest.mark.parametrize("workers", ["1", "2", "4"])
@pytest.mark.parametrize("name", ["hf", "hf-bos", "sp"])
def test_same_bytes_as_megatrons_builder(tmp_path, tokenizers_by_name, monkeypatch, name, workers):
    monkeypatch.setattr(reader, "BATCH_LINES", 5)
    monkeypatch.setattr(reader, "BATCH_BYTES", 50)
    chosen = tokenizers_by_name[name]
    source = write_jsonl(tmp_path / "in.jsonl", DOCUMENTS)
    main(arguments(source, tmp_path / "out", chosen, "--append-eod", "--workers", workers))
    wanted = expected(tmp_path, chosen, DOCUMENTS)
    assert len(wanted[0]) > 4000
    assert output_bytes(tmp_path / "out_text_document") == wanted
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 1000])
def test_lines_found_and_lines_read(tmp_path, monkeypatch, size):
    """Any size of the pieces and any part: the lines, their numbers and the blank ones."""
    monkeypatch.setattr(reader, "BATCH_BYTES", size)
    content = b'\n{"a": 1}\r\n \n\n{"b": "' + b"c" * 30 + b'"}\n{"d": 2}\n\n{"e": 3}'
    path = tmp_path / "in.jsonl"
    for data in (content, content + b"\n", content + b"\n\n"):
        path.write_bytes(data)
        lines = data.splitlines(keepends=True)
        starts = [sum(map(len, lines[:number])) for number in range(len(lines))]
        (source,) = find_sources([str(path)])
        for begin, end in [(0, None), (0, 1), (0, 30), (5, 40), (12, None), (13, None), (70, None)]:
            batches = list(reader.read_batches([Piece(source, begin, end, None)], []))
            assert sum(batch.file_bytes for batch in batches) == sum(
                batch.load().text_bytes for batch in batches
            )
            mine = [
                line
                for line, start in zip(lines, starts, strict=True)
                if begin <= start and (end is None or start < end)
            ]
            wanted = [(n, line) for n, line in enumerate(mine, 1) if line.strip()]
            assert [record for batch in batches for record in batch.load().records] == wanted
            assert sum(batch.load().blank_lines for batch in batches) == len(mine) - len(wanted)


def test_a_file_that_shrinks_meanwhile(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"text": "a"}\n')
    (found,) = reader.read_batches([whole(find_sources([str(path)]))[0]], [])
    path.write_bytes(b"")
    with pytest.raises(UserError, match="in.jsonl: has become shorter"):
        found.load()
    path.unlink()
    with pytest.raises(UserError, match="in.jsonl: cannot be read"):
        found.load()


def test_without_a_kernel_copy(tmp_path, tokenizers_by_name, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.copy_file_range", refuse, raising=False)
    monkeypatch.setattr(spill, "_CHUNK", 1000)
    chosen = tokenizers_by_name["hf"]
    source = write_jsonl(tmp_path / "in.jsonl", DOCUMENTS)
    main(arguments(source, tmp_path / "out", chosen, "--workers", "1"))
    assert output_bytes(tmp_path / "out_text_document") == expected(
        tmp_path, chosen, DOCUMENTS, eod=False
    )


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed(tmp_path, tokenizers_by_name, suffix):
    """One archive of two members end to end, another whose last line has no newline."""
    chosen = tokenizers_by_name["hf"]
    lines = Path(write_jsonl(tmp_path / "in.jsonl", DOCUMENTS)).read_bytes()
    half = lines.index(b"\n", len(lines) // 2) + 1
    compress = COMPRESS[suffix]
    first, second = tmp_path / f"a.jsonl{suffix}", tmp_path / f"b.jsonl{suffix}"
    first.write_bytes(compress(lines[:half]) + compress(lines[half:]))
    second.write_bytes(compress(lines.rstrip()))
    out = tmp_path / "out"
    main(arguments([str(first), str(second)], out, chosen, "--append-eod", "--workers", "1"))
    wanted = expected(tmp_path, chosen, DOCUMENTS * 2)
    assert output_bytes(tmp_path / "out_text_document") == wanted


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("damage", ["cut", "cut at once", "flipped", "plain"])
def test_damaged_archive(tmp_path, tokenizers_by_name, capfd, suffix, damage):
    data = bytearray(COMPRESS[suffix](Path(write_jsonl(tmp_path / "a", TEXTS)).read_bytes()))
    if damage == "cut":
        data = data[:-9]
    elif damage == "cut at once":
        data = data[:20]
    elif damage == "flipped":
        data[len(data) // 2] ^= 0xFF
        if suffix == ".zst":  # without a checksum only its structure can tell
            data[0] ^= 0xFF
    else:
        data = b'{"text": "a"}\n'
    source = tmp_path / f"in.jsonl{suffix}"
    source.write_bytes(data)
    line = arguments(str(source), tmp_path / "out", tokenizers_by_name["hf"], "--workers", "1")
    refused(capfd, [str(source), "damaged or not a"], main, line, untouched=tmp_path)


def test_a_large_archive_is_read_in_small_steps(tmp_path):
    """20 MB of one letter in 2 kB: never more than one chunk's worth at a time."""
    zstandard = pytest.importorskip("zstandard")
    data = b"a" * 20_000_000
    archive = zstandard.compress(data)
    stream = compression._ZstandardReader(io.BytesIO(archive))
    assert stream.readall() == data


def test_parquet(tmp_path, tokenizers_by_name, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    chosen = tokenizers_by_name["hf"]
    table = pyarrow.table({"id": range(len(DOCUMENTS)), "text": DOCUMENTS, "other": DOCUMENTS})
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=4)
    monkeypatch.setattr(reader, "BATCH_LINES", 3)
    monkeypatch.setattr(reader, "BATCH_BYTES", 30)
    line = arguments(str(tmp_path / "in.parquet"), tmp_path / "out", chosen, "--append-eod")
    main([*line, "--json-keys", "text", "other"])
    wanted = expected(tmp_path, chosen, DOCUMENTS)
    assert output_bytes(tmp_path / "out_text_document") == wanted
    assert output_bytes(tmp_path / "out_other_document") == wanted


def test_bad_parquet(tmp_path, tokenizers_by_name, capfd, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    chosen = tokenizers_by_name["hf"]
    good, bad = tmp_path / "good.parquet", tmp_path / "bad.parquet"
    parquet.write_table(pyarrow.table({"content": ["a", "b"], "n": [1, 2]}), good)
    bad.write_bytes(good.read_bytes()[:-20])
    null, none = tmp_path / "null.parquet", tmp_path / "none.parquet"
    parquet.write_table(pyarrow.table({"text": ["a", None]}), null)
    parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), none)
    broken = bytearray(good.read_bytes())
    broken[4:60] = bytes(56)
    page = tmp_path / "page.parquet"
    page.write_bytes(broken)
    out = tmp_path / "out"
    for path, flags, culprits in (
        (good, (), ["no column 'text'", "'content', 'n'", "--json-keys"]),
        (good, ("--json-keys", "n"), ["row 1", "'n' is a number"]),
        (bad, (), ["damaged or not a Parquet file"]),
        (page, ("--json-keys", "content"), ["damaged or not a Parquet file"]),
        (null, (), ["row 2", "'text' is null"]),
        (none, (), ["holds no documents"]),
    ):
        line = arguments(str(path), out, chosen, "--workers", "1", *flags)
        refused(capfd, [str(path), *culprits], main, line, untouched=tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    line = arguments(str(good), out, chosen)
    refused(capfd, [str(good), "pip install pyarrow"], main, line, untouched=tmp_path)


def test_zstandard_is_optional(tmp_path, tokenizers_by_name, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    source = tmp_path / "in.jsonl.zst"
    source.write_bytes(b"x")
    line = arguments(str(source), tmp_path / "out", tokenizers_by_name["hf"])
    refused(capfd, [str(source), "pip install zstandard"], main, line, untouched=tmp_path)


def test_text_files_by_pattern_and_lines_together(tmp_path, tokenizers_by_name):
    chosen = tokenizers_by_name["hf"]
    folder = tmp_path / "books" / "deep"
    folder.mkdir(parents=True)
    for name, text in (("b.txt", CODE), ("a.txt", CHINESE), ("c.txt", "")):
        (folder / name).write_bytes(text.encode())
    (folder / "d.txt.gz").write_bytes(gzip.compress(SPEECH.encode()))
    lines = write_jsonl(tmp_path / "in.jsonl", ["last"])
    pattern = str(tmp_path / "books" / "**" / "*.txt*")
    main(arguments([pattern, lines], tmp_path / "out", chosen, "--append-eod"))
    wanted = expected(tmp_path, chosen, [CHINESE, CODE, "", SPEECH, "last"])
    assert output_bytes(tmp_path / "out_text_document") == wanted


def test_a_file_named_like_a_pattern(tmp_path, tokenizers_by_name):
    source = write_jsonl(tmp_path / "in[1].jsonl", ["a"])
    main(arguments(source, tmp_path / "out", tokenizers_by_name["hf"], "--workers", "1"))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_standard_input(tmp_path, tokenizers_by_name, monkeypatch, workers):
    chosen = tokenizers_by_name["hf"]
    data = "".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    main(arguments("-", tmp_path / "out", chosen, "--append-eod", "--workers", workers))
    wanted = expected(tmp_path, chosen, DOCUMENTS)
    assert output_bytes(tmp_path / "out_text_document") == wanted


def test_bad_inputs(tmp_path, tokenizers_by_name, capfd, monkeypatch):
    chosen, out = tokenizers_by_name["hf"], tmp_path / "out"
    (tmp_path / "bad.txt").write_bytes(b"ab\xff")
    (tmp_path / "good.txt").write_bytes(b"ab")
    (tmp_path / "a.parquet.gz").write_bytes(b"ab")
    bad, packed = str(tmp_path / "bad.txt"), str(tmp_path / "a.parquet.gz")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"text": 1}\n')))
    for inputs, flags, culprits in (
        (str(tmp_path / "*.none"), (), ["*.none: no file matches", "--input"]),
        (["-", "-"], (), ["--input", "only once"]),
        ("-", (), ["standard input, line 1", "a number"]),
        ("-", ("--shard", "0/2"), ["--shard", "standard input"]),
        ("-", (), ["standard input: holds no documents"]),
        (bad, (), [f"{bad}: not UTF-8 (byte 3)"]),
        (packed, (), [packed, "decompress"]),
        (str(tmp_path / "good.txt"), ("--json-keys", "body"), ["good.txt", "'body'", "'text'"]),
    ):
        line = arguments(inputs, out, chosen, "--workers", "1", *flags)
        refused(capfd, culprits, main, line, untouched=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "4"])
@pytest.mark.parametrize("name", ["hf", "sp"])
def test_a_document_of_ten_megabytes(tmp_path, tokenizers_by_name, name, workers):
    chosen = tokenizers_by_name[name]
    text = (SPEECH + CHINESE + CODE) * (10_000_000 // len((SPEECH + CHINESE + CODE).encode()))
    source = write_jsonl(tmp_path / "in.jsonl", ["first", text, "last"])
    main(arguments(source, tmp_path / "out", chosen, "--append-eod", "--workers", workers))
    wanted = expected(tmp_path, chosen, ["first", text, "last"])
    assert output_bytes(tmp_path / "out_text_document") == wanted


SIZES = [3_000_000, pytest.param(100_000_000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("size", SIZES)
def test_a_long_line(tmp_path, tokenizers_by_name, size):
    """Within it the tokenizer cuts at the line breaks: its ids are one piece's, repeated."""
    pytest.importorskip("gigatoken")
    chosen, piece = tokenizers_by_name["hf"], "\n" + SPEECH
    source = write_jsonl(tmp_path / "in.jsonl", ["a", piece * (size // len(piece)), "b"])
    more = ("--encoder", "gigatoken", "--workers", "2")
    main(arguments(source, tmp_path / "out", chosen, *more))
    encode, _ = reference_encode(chosen)
    ids = np.fromfile(tmp_path / "out_text_document.bin", np.uint16)
    wanted = np.tile(encode(piece), size // len(piece))
    assert np.array_equal(ids[len(encode("a")) : -len(encode("b"))], wanted)


@pytest.mark.parametrize("size", SIZES)
def test_a_long_line_that_is_broken(tmp_path, tokenizers_by_name, capfd, size):
    broken = [
        (b'{"text": "' + b"a" * size, "not JSON"),
        (b'{"text": "' + b"a" * size + b'\xff"}', "not UTF-8"),
        (b'{"' + b"a" * size + b'": 1}', "no key 'text', its keys: 'aaa"),
        (b'{"text": [' + b"1," * (size // 2) + b"1]}", "an array, not a string"),
    ]
    chosen, good = tokenizers_by_name["hf"], b'{"text": "a nation"}\n'
    for number, (line, reason) in enumerate(broken):
        source = tmp_path / f"{number}.jsonl"
        source.write_bytes(good + line + b"\n" + good)
        command = arguments(str(source), tmp_path / "out", chosen, "--workers", "2")
        refused(capfd, [f"{source}, line 2: ", reason], main, command, untouched=tmp_path)
        main([*command, "--on-error", "skip"])
        captured = capfd.readouterr()
        assert "Wrote 2 documents" in captured.out
        assert f"skipped {source}, line 2: " in captured.err
        assert len(captured.err) < 1000
        source.unlink()
        for path in tmp_path.glob("out*"):
            path.unlink()
