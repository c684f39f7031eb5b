# SPDX-License-Identifier: Apache-2.0
"""preprocess_data.py --on-error skip: broken records are left out of every dataset, and counted."""

import gzip
import json

import pytest

from e2_tools.commands.preprocess_data import main
from tests.helpers.commands import refused
from tests.helpers.tiny_corpus import (
    HUGGING_FACE,
    TEXTS,
    arguments,
    output_bytes,
    save_hugging_face,
)

SKIP = ("--on-error", "skip")
BROKEN = [
    b"{",
    b'{"text": "\xff", "other": "a"}',
    b"[]",
    b'{"other": "the key that comes first is missing"}',
    b'{"text": "the second key is missing"}',
    b'{"text": 3, "other": "a"}',
    b'{"text": "\\ud800", "other": "a"}',
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return HUGGING_FACE, save_hugging_face(tmp_path_factory.mktemp("tokenizer"), "<eos>")


@pytest.fixture
def sources(tmp_path):
    """A file of good records, and the same with broken ones among them."""
    good = [json.dumps({"text": text, "other": text[::-1]}).encode() for text in TEXTS]
    both = [*BROKEN[:3], *good[:5], *BROKEN[3:5], *good[5:], *BROKEN[5:]]
    paths = tmp_path / "good.jsonl", tmp_path / "both.jsonl"
    for path, lines in zip(paths, (good, both), strict=True):
        path.write_bytes(b"\n".join(lines) + b"\n")
    return [str(path) for path in paths]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("encoder", ["auto", "reference"])
def test_the_good_records_are_all_there(workers, encoder, sources, tokenizer, tmp_path, capfd):
    more = ("--json-keys", "text", "other", "--workers", workers, "--encoder", encoder)
    main(arguments(sources[0], tmp_path / "good", tokenizer, *more))
    capfd.readouterr()
    main(arguments(sources[1], tmp_path / "both", tokenizer, *more, *SKIP))
    captured = capfd.readouterr()
    for key in ("text", "other"):
        expected = output_bytes(tmp_path / f"good_{key}_document")
        assert output_bytes(tmp_path / f"both_{key}_document") == expected
    assert f"Wrote {len(TEXTS)} documents" in captured.out
    assert "left out 7 broken records" in captured.out
    assert f"skipped {sources[1]}, line 1: not JSON" in captured.err
    assert captured.err.count("skipped ") == 5


def test_stop_is_the_default(sources, tokenizer, tmp_path, capfd):
    command = arguments(sources[1], tmp_path / "both", tokenizer)
    refused(capfd, ["both.jsonl, line 1: not JSON"], main, command, untouched=tmp_path)


def test_nothing_good_and_damaged_archives_stop_all_the_same(tokenizer, tmp_path, capfd):
    (tmp_path / "bad.jsonl").write_bytes(b"\n".join(BROKEN))
    whole = gzip.compress(b"".join(b'{"text": "%d"}\n' % number for number in range(9000)))
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[:-100])
    command = arguments(str(tmp_path / "cut.jsonl.gz"), tmp_path / "out", tokenizer, *SKIP)
    refused(capfd, ["cut.jsonl.gz: damaged"], main, command, untouched=tmp_path)
    command = arguments(str(tmp_path / "bad.jsonl"), tmp_path / "out", tokenizer)
    words = "none of the 0 documents holds a token"
    command += ["--json-keys", "nothing", *SKIP]
    refused(capfd, words, main, command, untouched=tmp_path, alone=False)
