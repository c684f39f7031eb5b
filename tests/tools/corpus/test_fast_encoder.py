# SPDX-License-Identifier: Apache-2.0
"""The fast encoder writes the same bytes, and steps back where it would not."""

import sys

import numpy as np
import pytest

from e2_tools.commands.preprocess_data import main
from e2_tools.corpus import fast, reader
from tests.helpers.commands import refused
from tests.helpers.tiny_corpus import arguments, output_bytes, write_jsonl
from tests.tools.corpus.test_corpus_inputs import DOCUMENTS, expected


class Stub:
    """A module in gigatoken's place that encodes with the reference, but for some texts."""

    def __init__(self, wrong=lambda text: False):
        self.wrong = wrong

    def Tokenizer(self, hugging_face):  # noqa: N802
        def encode(text):
            ids = hugging_face(text, add_special_tokens=False).input_ids
            return np.array([0] if self.wrong(text) else ids, np.uint32)

        return type("Encoder", (), {"encode": staticmethod(encode)})


def run(tmp_path, chosen, *flags):
    source = write_jsonl(tmp_path / "in.jsonl", DOCUMENTS)
    line = arguments(source, tmp_path / "out", chosen, "--append-eod", *flags)
    main(line)
    return output_bytes(tmp_path / "out_text_document"), line


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("name", ["hf", "hf-bos"])
def test_same_bytes_with_gigatoken(tmp_path, tokenizers_by_name, monkeypatch, capfd, name, workers):
    pytest.importorskip("gigatoken")
    monkeypatch.setattr(reader, "BATCH_LINES", 5)
    monkeypatch.setattr(reader, "BATCH_BYTES", 50)
    monkeypatch.setattr(fast, "CHECK_EVERY", 3)
    chosen = tokenizers_by_name[name]
    found, _ = run(tmp_path, chosen, "--encoder", "gigatoken", "--workers", workers)
    assert found == expected(tmp_path, chosen, DOCUMENTS)
    shown = capfd.readouterr()
    assert "(gigatoken)" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize("name", ["hf", "hf-bos"])
def test_what_the_tokenizer_adds_is_added(tmp_path, tokenizers_by_name, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "gigatoken", Stub())
    chosen = tokenizers_by_name[name]
    found, _ = run(tmp_path, chosen, "--encoder", "gigatoken", "--workers", "1")
    assert found == expected(tmp_path, chosen, DOCUMENTS)


@pytest.mark.parametrize("where", ["awkward", "first document", "a"])
def test_falls_back_and_says_so(tmp_path, tokenizers_by_name, monkeypatch, capfd, where):
    wrong = {"awkward": fast._AWKWARD[7], "first document": DOCUMENTS[0], "a": "a"}[where]
    monkeypatch.setitem(sys.modules, "gigatoken", Stub(lambda text: text == wrong))
    chosen = tokenizers_by_name["hf"]
    found, line = run(tmp_path, chosen, "--workers", "1")
    assert found == expected(tmp_path, chosen, DOCUMENTS)
    shown = capfd.readouterr()
    assert "(HuggingFaceTokenizer)" in shown.out
    assert shown.err.startswith("note: encoding with HuggingFaceTokenizer: gigatoken gives other")
    assert shown.err.count("\n") == 1
    culprits = ["--encoder gigatoken", "other ids", "choose reference"]
    refused(capfd, culprits, main, [*line, "--encoder", "gigatoken"], untouched=tmp_path)


def test_falls_back_when_it_cannot_load(tmp_path, tokenizers_by_name, monkeypatch, capfd):
    def refuse(_):
        raise ValueError("unsupported\nmodel")

    stub = Stub()
    stub.Tokenizer = refuse
    monkeypatch.setitem(sys.modules, "gigatoken", stub)
    run(tmp_path, tokenizers_by_name["hf"], "--workers", "1")
    assert "does not take this tokenizer ('unsupported model')" in capfd.readouterr().err
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    _, line = run(tmp_path, tokenizers_by_name["hf"], "--workers", "1")
    assert capfd.readouterr().err == ""
    culprits = ["--encoder gigatoken", "pip install gigatoken"]
    refused(capfd, culprits, main, [*line, "--encoder", "gigatoken"], untouched=tmp_path)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_late_difference_stops_the_run(tmp_path, tokenizers_by_name, monkeypatch, capfd, workers):
    """Two texts differ beyond what is compared before the start, and both are met."""
    monkeypatch.setattr(reader, "BATCH_LINES", 5)
    monkeypatch.setattr(reader, "BATCH_BYTES", 50)
    monkeypatch.setattr(fast, "CHECK_EVERY", 1)
    monkeypatch.setitem(sys.modules, "gigatoken", Stub(lambda text: text == DOCUMENTS[-1] * 2))
    source = write_jsonl(tmp_path / "in.jsonl", [*DOCUMENTS, DOCUMENTS[-1] * 2])
    line = arguments(source, tmp_path / "out", tokenizers_by_name["hf"], "--workers", workers)
    culprits = ["--encoder", "other ids", "--encoder reference"]
    refused(capfd, culprits, main, line, untouched=tmp_path)


def test_only_for_hugging_face(tmp_path, tokenizers_by_name, capfd):
    source = write_jsonl(tmp_path / "in.jsonl", ["a"])
    chosen = tokenizers_by_name["sp"]
    line = arguments(source, tmp_path / "out", chosen, "--encoder", "gigatoken")
    culprits = ["--encoder gigatoken", "HuggingFaceTokenizer"]
    refused(capfd, culprits, main, line, untouched=tmp_path)


def test_caches_are_emptied_when_they_have_grown(tmp_path, tokenizers_by_name, monkeypatch):
    made = []

    class Counting(Stub):
        def Tokenizer(self, hugging_face):  # noqa: N802
            made.append(hugging_face)
            return super().Tokenizer(hugging_face)

    # A worker's memory, which grows by 60 each time it is looked at.
    resident = iter(range(0, 10_000, 60))
    monkeypatch.setattr(fast, "_resident_bytes", lambda: next(resident))
    monkeypatch.setattr(fast, "LOOK_EVERY", 100)
    monkeypatch.setattr(fast, "CACHE_BYTES", 100)
    monkeypatch.setitem(sys.modules, "gigatoken", Counting())
    chosen = tokenizers_by_name["hf"]
    found, _ = run(tmp_path, chosen, "--encoder", "gigatoken", "--workers", "1")
    assert found == expected(tmp_path, chosen, DOCUMENTS)
    assert 3 < len(made) < len(DOCUMENTS)
