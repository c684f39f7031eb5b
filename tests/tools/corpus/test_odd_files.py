# SPDX-License-Identifier: Apache-2.0
"""Files that are odd and not wrong, or wrong in one record: marks, empty parts, endless lines."""

import gzip
import json
import lzma
import os

import pytest

from e2_tools.commands import prepare_corpus, preprocess_data
from e2_tools.corpus import lines, reader
from tests.helpers.commands import refused
from tests.helpers.tiny_corpus import HUGGING_FACE, arguments, output_bytes, save_hugging_face

BOM = b"\xef\xbb\xbf"
SKIP = ("--on-error", "skip")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return HUGGING_FACE, save_hugging_face(tmp_path_factory.mktemp("tokenizer"), "<eos>")


def tokenised(tmp_path, tokenizer, files, *flags):
    """The bytes of the dataset that files of this content give, by name."""
    paths = []
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        paths.append(str(tmp_path / name))
    preprocess_data.main(arguments(paths, tmp_path / "out", tokenizer, *flags))
    return output_bytes(tmp_path / "out_text_document")


def prepared(tmp_path, names):
    """The texts that prepare_corpus.py makes of these files."""
    output = tmp_path / "prepared.jsonl"
    inputs = [str(tmp_path / name) for name in names]
    prepare_corpus.main(["text", "--input", *inputs, "--output", str(output)])
    return [json.loads(row)["text"] for row in output.read_text().split("\n")[:-1]]


def line(text):
    return json.dumps({"text": text}).encode() + b"\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_mark_is_no_part_of_a_text(tmp_path, tokenizer, workers):
    plain = {"a.jsonl": line("hello world") + line("b"), "t.txt": b"hello world"}
    marked = {
        "a.jsonl": BOM + line("hello world") + BOM + line("b") + BOM + b"\n",
        "t.txt": BOM + plain["t.txt"],
    }
    flags = ("--workers", workers)
    wanted = tokenised(tmp_path, tokenizer, plain, *flags)
    assert tokenised(tmp_path, tokenizer, marked, *flags) == wanted
    zipped = {"a.jsonl.gz": gzip.compress(marked["a.jsonl"]), "t.txt": marked["t.txt"]}
    assert tokenised(tmp_path, tokenizer, zipped, *flags) == wanted


def test_a_mark_in_what_prepare_corpus_reads(tmp_path, capfd):
    marked = {"a.jsonl": BOM + line("a") + BOM + line("b"), "t.txt": BOM + b"c"}
    for name, content in marked.items():
        (tmp_path / name).write_bytes(content)
        assert prepared(tmp_path, [name]) == (["a", "b"] if name == "a.jsonl" else ["c"])


EMPTY = {
    "b.jsonl": b"",
    "c.jsonl": b"\n  \n\n",
    "d.jsonl": BOM,
    "e.jsonl.gz": gzip.compress(b""),
    "f.jsonl.xz": lzma.compress(b""),
    "g.jsonl.xz": b"",
}


def test_empty_parts_among_others_are_no_mistake(tmp_path, tokenizer, capfd):
    full = {"a.jsonl": line("one two"), "z.jsonl": line("three")}
    wanted = tokenised(tmp_path, tokenizer, full)
    capfd.readouterr()
    files = {"a.jsonl": full["a.jsonl"], **EMPTY, "z.jsonl": full["z.jsonl"]}
    assert tokenised(tmp_path, tokenizer, files) == wanted
    note = capfd.readouterr().err
    assert note.count("note: no documents in ") == 1
    assert "b.jsonl" in note
    assert f"and {len(EMPTY) - 3} more" in note
    assert prepared(tmp_path, files) == ["one two", "three"]
    assert capfd.readouterr().err.count("note: no documents in ") == 1


def test_parquet_without_rows_is_an_empty_part(tmp_path, tokenizer):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    empty = pyarrow.table({"text": pyarrow.array([], pyarrow.string())})
    parquet.write_table(empty, tmp_path / "empty.parquet")
    (tmp_path / "zero.parquet").touch()
    (tmp_path / "a.jsonl").write_bytes(line("one"))
    names = [str(tmp_path / name) for name in ("empty.parquet", "a.jsonl", "zero.parquet")]
    preprocess_data.main(arguments(names, tmp_path / "out", tokenizer))


@pytest.mark.parametrize("name", EMPTY)
def test_empty_parts_alone_are_one(tmp_path, tokenizer, capfd, name):
    (tmp_path / name).write_bytes(EMPTY[name])
    command = arguments([str(tmp_path / name)] * 2, tmp_path / "out", tokenizer)
    refused(capfd, [name, "holds no documents"], preprocess_data.main, command, untouched=tmp_path)
    command = ["text", "--input", str(tmp_path / name), "--output", str(tmp_path / "out.jsonl")]
    refused(capfd, [name, "holds no documents"], prepare_corpus.main, command, untouched=tmp_path)


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
def test_a_row_of_parquet_that_is_no_utf8_is_one_broken_record(tmp_path, tokenizer, capfd, kind):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    raw = pyarrow.array([b"good", b"he\xffo", b"too"], pyarrow.binary())
    text = pyarrow.StringArray.from_buffers(3, *raw.buffers()[1:])  # as a careless writer does
    path = tmp_path / "in.parquet"
    parquet.write_table(pyarrow.table({"text": text}), path, use_dictionary=kind == "dictionary")
    command = arguments(str(path), tmp_path / "out", tokenizer)
    words = ["in.parquet, row 2", "'text' is not UTF-8"]
    refused(capfd, words, preprocess_data.main, command, untouched=tmp_path)
    preprocess_data.main([*command, *SKIP])
    shown = capfd.readouterr()
    assert "Wrote 2 documents" in shown.out
    assert "left out 1 broken record" in shown.out


def test_a_binary_column_is_called_one(tmp_path, tokenizer, capfd):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": [b"a"]}), tmp_path / "in.parquet")
    command = arguments(str(tmp_path / "in.parquet"), tmp_path / "out", tokenizer)
    words = ["row 1", "'text' is binary data, not a string"]
    refused(capfd, words, preprocess_data.main, command, untouched=tmp_path)


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_line_beyond_the_limit_is_one_broken_record(
    tmp_path, tokenizer, capfd, monkeypatch, name, workers
):
    for module in (lines, reader):
        monkeypatch.setattr(module, "LONGEST", 3000)
    monkeypatch.setattr(reader, "BATCH_BYTES", 1000)
    good = [line(f"document {number}") for number in range(40)]
    content = b"".join([*good[:20], line("x" * 9000), *good[20:], line("y" * 3001).strip()])
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    command = arguments(str(tmp_path / name), tmp_path / "out", tokenizer, "--workers", workers)
    words = [f"{name}, line 21", "is the limit"]
    refused(capfd, words, preprocess_data.main, command, untouched=tmp_path)
    preprocess_data.main([*command, *SKIP])
    shown = capfd.readouterr()
    assert "Wrote 40 documents" in shown.out
    assert "left out 2 broken records" in shown.out
    assert "line 42" in shown.err
    wanted = output_bytes(tmp_path / "out_text_document")
    (tmp_path / "good.jsonl").write_bytes(b"".join(good))
    preprocess_data.main(arguments(str(tmp_path / "good.jsonl"), tmp_path / "out", tokenizer))
    assert output_bytes(tmp_path / "out_text_document") == wanted


def test_a_pipe_is_sent_to_standard_input(tmp_path, tokenizer, capfd):
    """As `--input <(zcat a.gz)` names one: it is not waited for."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    commands = (
        (preprocess_data.main, arguments(str(pipe), tmp_path / "out", tokenizer)),
        (
            prepare_corpus.main,
            ["text", "--input", str(pipe), "--output", str(tmp_path / "o.jsonl")],
        ),
    )
    for main, command in commands:
        refused(capfd, [str(pipe), "a pipe or device", "--input -"], main, command)
    assert list(tmp_path.iterdir()) == [pipe]
