# SPDX-License-Identifier: Apache-2.0
"""The corpus tokeniser: its output token by token, and one clear line for every bad input."""

import gzip
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from e2_common.errors import UserError
from e2_tools.commands.preprocess_data import main
from e2_tools.corpus import encoder, pool, reader, sentences, tokenizer
from tests.helpers import ROOT
from tests.helpers.commands import refused, run_command
from tests.helpers.ruler_data import save_punkt
from tests.helpers.tiny_corpus import (
    HUGGING_FACE,
    SENTENCE_PIECE,
    TEXTS,
    arguments,
    output_bytes,
    read_documents,
    reference_encode,
    write_jsonl,
)

SCRIPT = ROOT / "tools" / "preprocess_data.py"


@pytest.mark.parametrize("eod", [False, True])
@pytest.mark.parametrize("name", ["hf", "hf-bos", "sp"])
def test_tokens_and_document_boundaries(tmp_path, tokenizers_by_name, name, eod):
    chosen = tokenizers_by_name[name]
    source = write_jsonl(tmp_path / "in.jsonl", TEXTS)
    flags = ["--append-eod"] if eod else []
    main(arguments(source, tmp_path / "out", chosen, "--workers", "1", *flags))
    encode, eos = reference_encode(chosen)
    expected = []
    for text in TEXTS:
        ids = encode(text)
        # A text without tokens is a document without sequences, and gets no EOD.
        expected.append([ids + [eos] * eod] if ids else [])
    assert read_documents(tmp_path / "out_text_document") == expected
    assert any(not document for document in expected) == (name != "hf-bos")


def test_output_format_byte_for_byte(tmp_path, tokenizers_by_name):
    """The files spelt out from the format's definition, independently of the builder."""
    source = write_jsonl(tmp_path / "in.jsonl", ["We are met.", "", "a new nation"])
    main(arguments(source, tmp_path / "out", tokenizers_by_name["hf"], "--append-eod"))
    encode, eos = reference_encode(tokenizers_by_name["hf"])
    first, last = encode("We are met.") + [eos], encode("a new nation") + [eos]
    data, index = output_bytes(tmp_path / "out_text_document")
    assert data == np.array(first + last, "<u2").tobytes()
    assert index == (
        b"MMIDIDX\0\0"
        + np.array([1], "<u8").tobytes()
        + bytes([8])
        + np.array([2, 4], "<u8").tobytes()
        + np.array([len(first), len(last)], "<i4").tobytes()
        + np.array([0, 2 * len(first)], "<i8").tobytes()
        + np.array([0, 1, 1, 2], "<i8").tobytes()
    )


def test_workers_gzip_and_several_inputs_give_the_same_bytes(
    tmp_path, tokenizers_by_name, monkeypatch, capfd
):
    monkeypatch.setattr(reader, "BATCH_LINES", 3)  # many batches, so that order is at stake
    monkeypatch.setattr(reader, "BATCH_BYTES", 30)
    chosen = tokenizers_by_name["hf"]
    whole = write_jsonl(tmp_path / "in.jsonl", TEXTS * 3)
    parts = [write_jsonl(tmp_path / f"{i}.jsonl", TEXTS) for i in range(3)]
    zipped = tmp_path / "in.jsonl.gz"
    zipped.write_bytes(gzip.compress(Path(whole).read_bytes()))
    main(arguments(whole, tmp_path / "one", chosen, "--workers", "1"))
    main(arguments(whole, tmp_path / "two", chosen, "--workers", "2"))
    main(arguments(parts, tmp_path / "parts", chosen, "--workers", "1"))
    main(arguments(str(zipped), tmp_path / "gz", chosen, "--workers", "1"))
    one = output_bytes(tmp_path / "one_text_document")
    assert len(one[0]) > 1000
    for name in ("two", "parts", "gz"):
        assert output_bytes(tmp_path / f"{name}_text_document") == one
    assert capfd.readouterr().err == ""


def test_each_key_gets_its_dataset(tmp_path, tokenizers_by_name):
    source = tmp_path / "in.jsonl"
    source.write_text('{"title": "a nation", "body": "a great civil war"}\r\n\n')
    flags = ("--json-keys", "title", "body", "title")
    main(arguments(str(source), tmp_path / "new" / "out", tokenizers_by_name["hf"], *flags))
    encode, _ = reference_encode(tokenizers_by_name["hf"])
    folder = tmp_path / "new"
    assert read_documents(folder / "out_title_document") == [[encode("a nation")]]
    assert read_documents(folder / "out_body_document") == [[encode("a great civil war")]]
    assert len(list(folder.iterdir())) == 4


def test_summary_counts(tmp_path, tokenizers_by_name, capsys):
    source = write_jsonl(tmp_path / "in.jsonl", ["a nation", "", "a war"])
    with open(source, "a") as stream:
        stream.write("\n  \n")
    main(arguments(source, tmp_path / "out", tokenizers_by_name["hf"], "--append-eod"))
    encode, _ = reference_encode(tokenizers_by_name["hf"])
    tokens = len(encode("a nation")) + len(encode("a war")) + 2
    out = capsys.readouterr().out
    assert f"3 documents, {tokens} tokens (uint16)" in out
    assert "1 empty documents and 2 blank lines" in out
    assert f"{tmp_path}/out_text_document.bin, {tmp_path}/out_text_document.idx" in out
    assert "MB/s" in out
    assert out.count("\n") == 1


@pytest.mark.parametrize(("size", "name"), [(65499, "uint16"), (65500, "int32"), (65537, "int32")])
def test_dtype_follows_the_vocabulary(size, name):
    assert tokenizer.Tokenizer(None, None, size).dtype.__name__ == name


def test_large_vocabulary_is_stored_as_int32(tmp_path):
    class Model:
        def tokenize(self, text):
            return [70000, len(text)]

    batch = reader.Batch("f", [(1, b'{"text": "abc"}')], 0, 0, 0)
    encode = encoder.Encoder(tokenizer.Tokenizer(Model(), 1, 70001), ["text"], True)
    result = encode(batch).by_key["text"]
    assert result.tokens.dtype == np.int32
    assert result.tokens.tolist() == [70000, 3, 1]
    assert result.lengths.tolist() == [3]
    assert result.sequences.tolist() == [1]
    small = encoder.Encoder(tokenizer.Tokenizer(Model(), 1, 300), ["text"], True)
    with pytest.raises(UserError, match="id 70000"):
        small(batch)


def install_punkt(folder: Path, monkeypatch) -> None:
    save_punkt(folder)
    monkeypatch.setattr("nltk.data.path", [str(folder)])


def test_split_sentences(tmp_path, tokenizers_by_name, monkeypatch):
    install_punkt(tmp_path / "nltk", monkeypatch)
    texts = ["We met Gen. Grant. A new nation.  It is proper!", "", "One."]
    source = write_jsonl(tmp_path / "in.jsonl", texts)
    flags = ("--split-sentences", "--append-eod")
    main(arguments(source, tmp_path / "out", tokenizers_by_name["hf-bos"], *flags))
    encode, eos = reference_encode(tokenizers_by_name["hf-bos"])
    split = ["We met Gen. Grant.", "A new nation.", "It is proper!"]
    first = [encode(s) for s in split]
    first[-1] += [eos]
    expected = [first, [], [encode("One.") + [eos]]]
    assert read_documents(tmp_path / "out_text_sentence") == expected


def test_sentences_are_split_piece_by_piece(tmp_path, monkeypatch):
    install_punkt(tmp_path, monkeypatch)
    monkeypatch.setattr(sentences, "PIECE_CHARACTERS", 8)
    assert sentences.load_splitter()("A war. A nation.") == ["A war.", "A", " nation."]


BAD_LINES = {
    "not JSON": ('{"text": "a"', ["in.jsonl, line 2", "not JSON", "column"]),
    "not UTF-8": (b'{"text": "\xff"}', ["in.jsonl, line 2", "not UTF-8"]),
    "not an object": ("[1]", ["in.jsonl, line 2", "an array, not a JSON object"]),
    "too deep": ("[" * 100_000, ["in.jsonl, line 2", "not JSON"]),
    "no key": ('{"content": "a"}', ["in.jsonl, line 2", "'text'", "'content'", "--json-keys"]),
    "a number": ('{"text": 3}', ["in.jsonl, line 2", "'text'", "a number, not a string"]),
    "null": ('{"text": null}', ["in.jsonl, line 2", "null, not a string"]),
    "a surrogate": ('{"text": "ab\\ud800"}', ["in.jsonl, line 2", "surrogate", "character 3"]),
}


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_line(tmp_path, tokenizers_by_name, capfd, case, workers):
    line, culprits = BAD_LINES[case]
    line = line.encode() if isinstance(line, str) else line
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"text": "a"}\n' + line + b'\n{"text": "b"}\n')
    chosen = tokenizers_by_name["hf"]
    flags = ("--workers", workers)
    refused(
        capfd,
        culprits,
        main,
        arguments(str(source), tmp_path / "out", chosen, *flags),
        untouched=tmp_path,
    )


@pytest.mark.parametrize(
    ("name", "content", "culprit"),
    [
        ("none.jsonl", None, "no such file"),
        ("empty.jsonl", b"", "holds no documents"),
        ("blank.jsonl", b"\n \n", "holds no documents"),
        ("empty.jsonl.gz", gzip.compress(b"", mtime=0), "holds no documents"),
        ("plain.jsonl.gz", b'{"text": "a"}\n', "not a gzip file"),
        ("cut.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99, mtime=0)[:-9], "damaged"),
        ("spaces.jsonl", b'{"text": ""}\n', "--input"),
    ],
)
def test_bad_file(tmp_path, tokenizers_by_name, capfd, name, content, culprit):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    good = write_jsonl(tmp_path / "good.jsonl", ["a"])
    alone = name == "spaces.jsonl" or culprit == "holds no documents"
    sources = [str(tmp_path / name)] if alone else [good, str(tmp_path / name)]
    culprits = [culprit] if name == "spaces.jsonl" else [name, culprit]
    line = arguments(sources, tmp_path / "out", tokenizers_by_name["hf"])
    refused(capfd, culprits, main, line, untouched=tmp_path)


def test_bad_flags(tmp_path, tokenizers_by_name, capfd, monkeypatch):
    source = write_jsonl(tmp_path / "in.jsonl", ["a"])
    out = tmp_path / "out"
    hugging_face, sentence_piece = tokenizers_by_name["hf"], tokenizers_by_name["sp"]
    (tmp_path / "folder").mkdir()
    cases = [
        (arguments(str(tmp_path), out, hugging_face), [str(tmp_path), "not a file"]),
        (
            arguments(source, out, (HUGGING_FACE, "/no/such")),
            ["--tokenizer-model /no/such: no such"],
        ),
        (arguments(source, out, (HUGGING_FACE, source)), [source, "folder"]),
        (arguments(source, out, (HUGGING_FACE, str(tmp_path / "folder"))), ["does not load"]),
        (arguments(source, out, (SENTENCE_PIECE, hugging_face[1])), [".model file"]),
        (arguments(source, out, (SENTENCE_PIECE, source)), [source, "does not load"]),
        (arguments(source, out, sentence_piece, "--workers", "0"), ["--workers 0"]),
        (
            arguments(source, Path(source) / "out", hugging_face),
            ["--output-prefix", "in.jsonl is not a folder"],
        ),
        (arguments(source, "/proc/none/out", hugging_face), ["/proc"]),
    ]
    for name in ("hf-no-eos", "sp-no-eos"):
        line = arguments(source, out, tokenizers_by_name[name], "--append-eod")
        cases.append((line, ["--append-eod", "no EOS"]))
    for line, culprits in cases:
        refused(capfd, culprits, main, line, untouched=tmp_path)

    line = arguments(source, out, hugging_face, "--split-sentences")
    monkeypatch.setattr("nltk.data.path", [str(tmp_path)])
    refused(
        capfd,
        ["--split-sentences", "NLTK_DATA", "punkt_tab/english"],
        main,
        line,
        untouched=tmp_path,
    )
    # Root may write anywhere, so the refusal is acted.
    monkeypatch.setattr("os.access", lambda *_: False)
    line = arguments(source, out, hugging_face)
    refused(
        capfd, ["--output-prefix", str(tmp_path), "not writable"], main, line, untouched=tmp_path
    )


def test_unknown_tokenizer_type(tmp_path, capfd):
    with pytest.raises(SystemExit) as exit_info:  # argparse's own refusal, after the usage
        main(arguments("in", tmp_path / "out", ("GPT2BPETokenizer", "x")))
    assert exit_info.value.code == 2
    assert "--tokenizer-type" in capfd.readouterr().err


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_full_disk_is_named_and_old_output_kept(
    tmp_path, tokenizers_by_name, capfd, monkeypatch, on_error
):
    def no_space(*_):
        raise OSError(28, "No space left on device")

    source = write_jsonl(tmp_path / "in.jsonl", ["a"])
    line = arguments(source, tmp_path / "out", tokenizers_by_name["hf"], "--on-error", on_error)
    main(line)
    old = output_bytes(tmp_path / "out_text_document")
    for name, culprit in (
        ("e2_tools.corpus.spill._write_all", str(tmp_path)),
        ("e2_tools.corpus.writer.copy_bytes", "out_text_document.bin"),
        ("e2_common.disk.indexed_dataset.IndexWriter.add", "out_text_document.idx"),
        ("e2_common.disk.indexed_dataset.IndexWriter.write", "out_text_document.idx"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(name, no_space)
            refused(capfd, [culprit, "No space left"], main, line, untouched=tmp_path)
    assert output_bytes(tmp_path / "out_text_document") == old


def test_the_map_reads_no_further_ahead_than_it_must():
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    results = pool.ordered_map(abs, items(), 2)
    assert next(results) == 0
    assert len(taken) <= 16
    assert list(results) == list(range(1, 100))


def test_a_killed_worker_is_reported():
    def die(_):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UserError, match="killed"):
        list(pool.ordered_map(die, range(3), 2))


def test_help_is_quick():
    start = time.monotonic()
    assert "--append-eod" in run_command(SCRIPT, "--help").stdout
    # Importing torch alone takes longer than this on most machines.
    assert time.monotonic() - start < 5
    code = f"import sys; sys.argv = ['x']; import runpy; runpy.run_path({str(SCRIPT)!r})"
    code += "; sys.exit('torch' in sys.modules)"
    run_command("-c", code)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing(
    request, tmp_path, tokenizers_by_name, capfd, monkeypatch, number
):
    """The signal comes while two workers are at it, in the middle of the input."""
    if number == signal.SIGINT:  # a shell's background job ignores it, and so would Python
        before = signal.signal(number, signal.default_int_handler)
        request.addfinalizer(lambda: signal.signal(number, before))
    seen = []

    def interrupted(writer, *_):
        seen.append(len(list(tmp_path.glob(".out_text_document.bin.*.tmp"))))
        os.kill(os.getpid(), number)

    monkeypatch.setattr("e2_tools.corpus.writer.CorpusWriter.add", interrupted)
    monkeypatch.setattr(reader, "BATCH_LINES", 2)
    monkeypatch.setattr(reader, "BATCH_BYTES", 20)
    source = write_jsonl(tmp_path / "in.jsonl", TEXTS)
    with pytest.raises(SystemExit) as exit_info:
        main(arguments(source, tmp_path / "out", tokenizers_by_name["hf"], "--workers", "2"))
    assert exit_info.value.code == 130
    assert capfd.readouterr().err == "interrupted\n"
    assert seen == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
