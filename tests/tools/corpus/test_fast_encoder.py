# SPDX-License-Identifier: Apache-2.0
"""The fast encoder writes the same bytes, and steps back where it would not."""

import json
import sys
import unicodedata

import numpy as np
import pytest

from e2_tools.commands.preprocess_data import main
from e2_tools.corpus import fast, reader
from tests.helpers.commands import refused
from tests.helpers.tiny_corpus import (
    HUGGING_FACE,
    arguments,
    output_bytes,
    save_hugging_face,
    write_jsonl,
)
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
    # Of the characters that Unicode never assigns one text has some.
    assert "(gigatoken, 1 of the texts HuggingFaceTokenizer)" in shown.out
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
def test_a_late_difference_goes_to_the_reference(
    tmp_path, tokenizers_by_name, monkeypatch, capfd, workers
):
    """Two texts differ beyond what is compared before the start, and both are met."""
    monkeypatch.setattr(reader, "BATCH_LINES", 5)
    monkeypatch.setattr(reader, "BATCH_BYTES", 50)
    monkeypatch.setattr(fast, "CHECK_EVERY", 1)
    late = DOCUMENTS[-1] * 2
    monkeypatch.setitem(sys.modules, "gigatoken", Stub(lambda text: text == late))
    texts = [*DOCUMENTS, late, *DOCUMENTS, late]
    source = write_jsonl(tmp_path / "in.jsonl", texts)
    chosen = tokenizers_by_name["hf"]
    line = arguments(source, tmp_path / "out", chosen, "--append-eod", "--workers", workers)
    main(line)
    assert output_bytes(tmp_path / "out_text_document") == expected(tmp_path, chosen, texts)
    notes = capfd.readouterr().err.splitlines()
    assert len(notes) == 1
    assert notes[0].startswith("note: gigatoken gave other ids for ")
    assert "--encoder reference is exact" in notes[0]


def counted(tmp_path, monkeypatch, capfd, chosen, wrong, texts, every):
    """Run with a stub; compare the bytes; return the summary and the notes."""
    monkeypatch.setattr(fast, "CHECK_EVERY", every)
    monkeypatch.setitem(sys.modules, "gigatoken", Stub(wrong))
    source = write_jsonl(tmp_path / "in.jsonl", texts)
    main(arguments(source, tmp_path / "out", chosen, "--append-eod", "--workers", "1"))
    assert output_bytes(tmp_path / "out_text_document") == expected(tmp_path, chosen, texts)
    return capfd.readouterr()


# As gigatoken and the reference differ: where a word ends, how marks are put in order, in digits.
@pytest.mark.parametrize(
    ("char", "place"),
    [
        *(("\u00e9", "{}'s"), ("\u0651", "a{}"), ("\u0967", "{}23"), ("\u4e2d", "{}\u0301")),
        *(("\u0323", "e{}\u0301"), ("\U0001f389", " {} ")),
    ],
)
def test_a_character_that_differs_somewhere_is_left_to_the_reference(
    tmp_path, tokenizers_by_name, monkeypatch, capfd, char, place
):
    """No text that is compared later differs; only a trial of the character itself can tell."""
    chosen = tokenizers_by_name["hf"]
    monkeypatch.setattr(fast, "CHECK_CHARACTERS", 6)  # the first text is compared, no other
    texts = ["a word", f"a {char} b", *(place.format(char), "\u00fc", "more") * 3]
    wrong = place.format(char)
    shown = counted(tmp_path, monkeypatch, capfd, chosen, lambda text: wrong in text, texts, 10**9)
    assert "(gigatoken, 4 of the texts HuggingFaceTokenizer)" in shown.out
    assert shown.err == ""


def test_a_character_that_differs_late_is_left_to_the_reference(
    tmp_path, tokenizers_by_name, monkeypatch, capfd
):
    """Beyond the places that are tried; of the texts that follow only those with it are slow."""
    chosen = tokenizers_by_name["hf"]
    texts = ["an \u00e9", *(["plain"] * 3), "quq\u00e9q", "\u00fc", "another \u00e9", "\u00fc"]
    # The first texts are compared before the start.
    monkeypatch.setattr(fast, "CHECK_CHARACTERS", 10)
    shown = counted(tmp_path, monkeypatch, capfd, chosen, lambda text: "q\u00e9q" in text, texts, 1)
    assert "(gigatoken, 2 of the texts HuggingFaceTokenizer)" in shown.out
    assert "other ids for 1 of 7 texts compared" in shown.err


def test_characters_newer_than_the_tables_are_left_to_the_reference(
    tmp_path, tokenizers_by_name, monkeypatch, capfd
):
    texts = ["a word", "\U0003fff0 and more", "\u0378", "\u00e9"]
    assert {unicodedata.category(text[0]) for text in texts[1:3]} == {"Cn"}
    shown = counted(
        tmp_path, monkeypatch, capfd, tokenizers_by_name["hf"], lambda _: False, texts, 10**9
    )
    assert "(gigatoken, 2 of the texts HuggingFaceTokenizer)" in shown.out


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_vocabulary_without_some_bytes(tmp_path, monkeypatch, capfd, workers):
    """As SmolLM2's: texts with such a byte go to the reference, which drops it."""
    pytest.importorskip("gigatoken")
    folder = tmp_path / "gaps"
    save_hugging_face(folder, "<eos>")
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    vocabulary = content["model"]["vocab"]
    for token in (_name_of(0), _name_of(7), _name_of(0xF0)):
        del vocabulary[token]
    content["model"]["vocab"] = {token: place for place, token in enumerate(vocabulary)}
    path.write_text(json.dumps(content), "utf-8")
    chosen = (HUGGING_FACE, str(folder))
    texts = [*DOCUMENTS, "a\x07b", "ab\x00", "\U0001f389 party", "\u00e9", "plain"]
    source = write_jsonl(tmp_path / "in.jsonl", texts)
    line = arguments(source, tmp_path / "out", chosen, "--append-eod", "--workers", workers)
    main([*line, "--encoder", "gigatoken"])
    assert output_bytes(tmp_path / "out_text_document") == expected(tmp_path, chosen, texts)
    slow = sum(any(byte in text.encode() for byte in (0, 7, 0xF0)) for text in texts) + 1
    shown = capfd.readouterr()
    assert f"(gigatoken, {slow} of the texts HuggingFaceTokenizer)" in shown.out
    assert shown.err == ""


def _name_of(byte: int) -> str:
    """The character that stands for a byte in byte-level vocabularies."""
    from tokenizers.pre_tokenizers import ByteLevel

    text = chr(byte) if byte < 128 else bytes([byte, 0x90, 0x80, 0x80]).decode()
    return ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[0][0][0]


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
