# SPDX-License-Identifier: Apache-2.0
"""prepare_corpus.py and records, arrays and names that nobody expects: nothing good is lost."""

import argparse
import codecs
import gzip
import io
import json
import lzma
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from e2_tools.commands.prepare_corpus import main
from e2_tools.corpus.prepare import array, records
from e2_tools.corpus.prepare.chat import TEMPLATES
from e2_tools.corpus.prepare.corpora import Pile, longsum, plain, sharegpt
from e2_tools.corpus.prepare.records import Broken
from e2_tools.corpus.prepare.turns import conversation_of
from tests.helpers.commands import refused
from tests.tools.corpus.test_prepare_corpus import CHAT, prepared


def texts(tmp_path, content, name="in.json"):
    return [record["text"] for record in prepared(tmp_path, "text", content, name=name)]


def good(number):
    return {"text": f"good {number}", "n": {"text": ["nested"]}}


def written(numbers, **how):
    return json.dumps([good(number) for number in numbers], **how).encode()


@pytest.fixture(params=[3, 1 << 20])
def _pieces(request, monkeypatch):
    """Bytes that are read at a time."""
    monkeypatch.setattr(array, "_CHUNK", request.param)
    monkeypatch.setattr(records, "_HEAD", request.param)


in_pieces = pytest.mark.usefixtures("_pieces")


@in_pieces
def test_what_follows_an_array_is_read(tmp_path, capfd):
    lines = b'\n{"text": "good 4"}\nnot JSON\n{"text": "good 5"}'
    for between, indent in product([b"", b"\n", b" , "], [None, 2]):
        content = written([0, 1], indent=indent) + between + written([2, 3], indent=indent) + lines
        assert texts(tmp_path, content) == [f"good {n}" for n in range(6)], content
        captured = capfd.readouterr()
        assert "7 records read, 6 written" in captured.out, content
        assert "1 broken: not JSON" in captured.out, content


BROKEN_ELEMENTS = {
    "no value": b'{"text": }',
    "a bare word": b'{"text": good}',
    "a key of nothing": b"{1: 2}",
    "not UTF-8": b'{"text": "\xff"}',
    "an invalid escape": b'{"text": "\\q"}',
    "a line break in a string": b'{"text": "a\nb"}',
    "too deep": b"[" * 100_000 + b"]" * 100_000,
    "no bracket at the end": b'{"text": ["a"}',
    "one bracket too many": b'{"text": "a"}}',
    "two values": b'{"text": "a"} "b"',
    "single quotes": b"{'text': 'a'}",
    "no JSON": b"x y",
}


@in_pieces
@pytest.mark.parametrize("reason", BROKEN_ELEMENTS)
def test_broken_elements_are_counted(reason, tmp_path, capfd):
    whole = [json.dumps(good(number)).encode() for number in range(4)]
    elements = [whole[0], BROKEN_ELEMENTS[reason], whole[1], whole[2], whole[3]]
    for separator in (b",", b",\n  "):
        content = b"[" + separator[1:] + separator.join(elements) + b"\n]\n"
        assert texts(tmp_path, content) == [f"good {n}" for n in range(4)], separator
        captured = capfd.readouterr()
        assert "5 records read, 4 written" in captured.out, separator
        assert f"skipped {tmp_path}/in.json, element 2: not " in captured.err, separator
        command = ["text", "--input", str(tmp_path / "in.json"), "--on-error", "stop"]
        command += ["--output", str(tmp_path / "o.jsonl")]
        refused(capfd, ["in.json, element 2: not "], main, command, untouched=tmp_path)


@in_pieces
def test_elements_on_lines_of_their_own_are_told_apart(tmp_path, capfd):
    ends = [b'{"text": "no end}', b'{"text": ["no end"', b'{"a": {"b']
    for broken, place in product(ends, [0, 2, 4]):
        elements = [json.dumps(good(number), indent=2).encode() for number in range(4)]
        elements.insert(place, broken)
        content = b"[\n" + b",\n".join(elements) + b"\n]\n"
        assert texts(tmp_path, content) == [f"good {n}" for n in range(4)], (broken, place)
        assert "5 records read, 4 written" in capfd.readouterr().out, (broken, place)


@in_pieces
def test_an_array_without_an_end_stops(tmp_path, capfd):
    for content in (
        written([0, 1])[:-1],
        written([0, 1])[:-9],
        written([0, 1], indent=2)[:-4],
        written([0]) + b"\n" + written([1])[:-1],
        b'[{"text": "no end}, {"text": "a"}]',
    ):
        (tmp_path / "in.json").write_bytes(content)
        command = ["text", "--input", str(tmp_path / "in.json")]
        command += ["--output", str(tmp_path / "o.jsonl")]
        words = "in.json: the JSON array is cut short or damaged"
        refused(capfd, words, main, command, untouched=tmp_path, alone=False)


@in_pieces
def test_standard_input_and_byte_order_marks(tmp_path, monkeypatch):
    starts = [b"", codecs.BOM_UTF8, codecs.BOM_UTF8 + b"\n \n", b" " * 9000]
    two = [b'{"text": "good 0"}\n{"text": "good 1"}', written([0, 1])]
    for start, records_ in product(starts, two):
        content = start + records_
        assert texts(tmp_path, content) == ["good 0", "good 1"], content
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        output = tmp_path / "standard.jsonl"
        main(["text", "--input", "-", "--output", str(output)])
        assert output.read_bytes() == (tmp_path / "out.jsonl").read_bytes(), content


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
# Values where the corpora look for something else.
odd = st.fixed_dictionaries(
    {},
    optional={
        "text": values,
        "meta": values | st.fixed_dictionaries({"pile_set_name": values}),
        "article_text": values,
        "abstract_text": values,
        "messages": values,
        "conversations": values
        | st.lists(
            st.fixed_dictionaries(
                {}, optional=dict.fromkeys(("from", "role", "value", "content"), values)
            ),
            max_size=3,
        ),
    },
)
GOOD = {
    "text": "kept",
    "meta": {"pile_set_name": "ArXiv"},
    "conversations": CHAT,
    "article_text": ["kept ."],
    "abstract_text": ["<S> kept . </S>"],
}


@given(st.lists(odd | values, max_size=5), st.integers(0, 5), st.sampled_from(["lines", None, 1]))
@example([{"text": "\x85"}], 0, "lines")  # a line's end to str.splitlines, not to JSON lines
@settings(max_examples=60, deadline=None)
def test_any_json_beside_good_records(tmp_path_factory, others, place, layout):
    tmp_path = tmp_path_factory.mktemp("odd")
    listed = [*others[:place], GOOD, *others[place:], GOOD]
    if layout == "lines":
        content = "".join(json.dumps(record) + "\n" for record in listed)
    else:
        content = json.dumps(listed, indent=layout)
    for corpus in ("pile", "sharegpt", "longsum", "text"):
        found = prepared(tmp_path, corpus, content.encode())
        assert 2 <= len(found) <= len(listed)
        assert sum("kept" in record["text"] or "Lincoln" in record["text"] for record in found) >= 2


@given(odd | values)
@settings(max_examples=200, deadline=None)
def test_any_record_is_converted_or_broken(record):
    args = argparse.Namespace(
        **{"subsets": ["ArXiv"], "exclude_subsets": None, "loss_on": "assistant"},
        **{"template": "{article} {summary}", "strip_gutenberg": True, "chat_template": "vicuna"},
        tokenizer_model=None,
    )
    for convert in (Pile(args), longsum(args), plain(args), sharegpt(args)):
        try:
            result = convert(record)
        except Broken:
            continue
        assert result is None or isinstance(result["text"], str)


@given(st.lists(st.binary(max_size=30) | st.sampled_from(list(BROKEN_ELEMENTS.values())[:6])))
@settings(max_examples=150, deadline=None)
def test_any_bytes_in_an_array_end_the_run_in_order(parts):
    """What is given up is told: an element that is an exception, or an array cut short."""
    stream = io.BytesIO(b"[" + b",".join([b'"first"', *parts]) + b"]")
    found = []
    try:
        found.extend(array.Elements(stream.read, records._json))
    except array.CutShort:
        found.append(None)
    assert found[0] == "first"


@given(st.lists(values, min_size=1), st.sampled_from([None, 0, 1]), st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_an_array_is_what_json_says(listed, indent, chunk):
    content = json.dumps(listed, indent=indent).encode()
    stream, before = io.BytesIO(content), array._CHUNK
    array._CHUNK = chunk
    try:
        found = list(array.Elements(stream.read, records._json))
    finally:
        array._CHUNK = before
    assert json.dumps(found) == json.dumps(json.loads(content))


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=4))
@settings(deadline=None)
def test_spans_are_the_answers(pairs):
    pairs = [pair for pair in pairs if all(text.strip() for text in pair)]
    listed = [
        {"from": role, "value": text}
        for pair in pairs
        for role, text in zip(("human", "gpt"), pair, strict=True)
    ]
    if not listed:
        return
    for name, end in (("vicuna", "</s>"), ("chatml", "<|im_end|>")):
        text, spans = TEMPLATES[name](conversation_of({"conversations": listed}))
        assert [text[b:e] for b, e in spans] == [answer + end for _, answer in pairs]


DECOMPRESS = {".gz": gzip.decompress, ".xz": lzma.decompress, ".zst": None, "": bytes}


@pytest.mark.parametrize("suffix", DECOMPRESS)
def test_the_output_is_what_its_name_says(suffix, tmp_path):
    if suffix == ".zst":
        decompressor = pytest.importorskip("zstandard").ZstdDecompressor()
        decompress = lambda data: decompressor.decompressobj().decompress(data)  # noqa: E731
    else:
        decompress = DECOMPRESS[suffix]
    (tmp_path / "in.json").write_bytes(written([0, 1]))
    output = tmp_path / f"out.jsonl{suffix}"
    command = ["text", "--input", str(tmp_path / "in.json"), "--output", str(output)]
    main(command)
    first = output.read_bytes()
    lines = [json.loads(line) for line in decompress(first).splitlines()]
    assert [line["text"] for line in lines] == ["good 0", "good 1"]
    main(command)
    assert output.read_bytes() == first
    main(["text", "--input", str(output), "--output", str(tmp_path / "again.jsonl")])
    assert (tmp_path / "again.jsonl").read_bytes() == decompress(first)


@pytest.mark.parametrize("name", ["o.jsonl.bz2", "o.txt", "o.txt.gz", "o.parquet", "o.zip"])
def test_names_of_other_formats_are_refused(name, tmp_path, capfd):
    (tmp_path / "in.json").write_bytes(written([0]))
    command = ["text", "--input", str(tmp_path / "in.json"), "--output", str(tmp_path / name)]
    refused(capfd, [f"--output {tmp_path}/{name}", ".jsonl"], main, command, untouched=tmp_path)


def test_subsets_that_are_misspelt_or_absent(tmp_path, capfd):
    records = [{"text": "a", "meta": {"pile_set_name": "ArXiv"}}]
    prepared(tmp_path, "pile", records, "--exclude-subsets", "Github", "Books3")
    error = capfd.readouterr().err
    assert error == (
        "note: no record was of the subset 'Books3'\nnote: no record was of the subset 'Github'\n"
    )
    command = ["pile", "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "p.jsonl")]
    for flag in ("--subsets", "--exclude-subsets"):
        culprits = [f"{flag} 'GitHub'", "not a subset of the Pile", "'Github'"]
        refused(capfd, culprits, main, [*command, flag, "ArXiv", "GitHub"], untouched=tmp_path)


def test_lists_where_names_belong(tmp_path, capfd):
    odd = [
        {"text": "a", "meta": {"pile_set_name": ["ArXiv"]}, "conversations": [{"from": ["x"]}]},
        {"text": "b", "meta": {"pile_set_name": "ArXiv"}, "conversations": CHAT},
    ]
    assert len(prepared(tmp_path, "pile", odd)) == 2
    assert prepared(tmp_path, "pile", odd, "--subsets", "ArXiv") == [
        {"text": "b", "meta": {"pile_set_name": "ArXiv"}}
    ]
    assert "1 broken: no pile_set_name in meta" in capfd.readouterr().out
    assert len(prepared(tmp_path, "sharegpt", odd)) == 1
    assert "1 broken: a turn of nobody known" in capfd.readouterr().out
