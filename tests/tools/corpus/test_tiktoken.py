# SPDX-License-Identifier: Apache-2.0
"""preprocess_data.py with a tiktoken vocabulary: the bytes that Megatron's own class gives."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from e2_tools.commands.inspect_dataset import main as inspect
from e2_tools.commands.preprocess_data import main
from tests.helpers.commands import refused
from tests.helpers.tiny_corpus import (
    SPEECH,
    arguments,
    output_bytes,
    read_documents,
    reference_bytes,
    write_jsonl,
)
from tests.tools.corpus.test_corpus_inputs import DOCUMENTS

pytest.importorskip("tiktoken")
TIKTOKEN = "TikTokenizer"
SPECIAL = ["<unk>", "<s>", "</s>", "<mask>", "<pad>", "<cls>", "<sep>"]


def save_tiktoken(path):
    """Every byte, an accent, then the beginnings of words by length, as BPE reaches them."""
    # Only v2 keeps a letter and its accent together.
    tokens = [*(bytes([byte]) for byte in range(256)), "\u0301".encode(), "e\u0301".encode()]
    words = [f" {word}".encode() for word in SPEECH.split()]
    starts = {word[:end] for word in words for end in range(2, len(word) + 1)}
    tokens += sorted(starts, key=lambda token: (len(token), token))
    listed = [
        {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
        for rank, token in enumerate(tokens)
    ]
    path.write_text(json.dumps(listed))
    return str(path), len(tokens)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    return save_tiktoken(tmp_path_factory.mktemp("tiktoken") / "vocab.json")


def expected(folder, path, **options):
    """Megatron's class and Megatron's builder."""
    from megatron.core.tokenizers.text.libraries.tiktoken_tokenizer import TikTokenTokenizer

    tokenizer = TikTokenTokenizer(path, **options)
    documents = (tokenizer.text_to_ids(text) for text in DOCUMENTS)
    return reference_bytes(
        folder, (ids + [tokenizer.eos_id] if ids else None for ids in documents), np.uint16
    )


@pytest.mark.parametrize("workers", ["1", "4"])
@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ((), {"num_special_tokens": 1000}),
        (
            ("--tiktoken-pattern", "v1", "--tiktoken-num-special-tokens", "10"),
            {"pattern": "v1", "num_special_tokens": 10},
        ),
        (
            ("--tiktoken-special-tokens", "[INST]", *SPECIAL, "--tiktoken-pattern", "v2"),
            {"special_tokens": ["[INST]", *SPECIAL], "num_special_tokens": 1000},
        ),
    ],
)
def test_same_bytes_as_megatrons_class(flags, options, workers, vocabulary, tmp_path):
    path, tokens = vocabulary
    size = tokens + options["num_special_tokens"] - 3  # Megatron takes as many as the size lets it
    source = write_jsonl(tmp_path / "in.jsonl", DOCUMENTS)
    command = arguments(source, tmp_path / "out", (TIKTOKEN, path), "--append-eod", *flags)
    main([*command, "--vocab-size", str(size), "--workers", workers])
    wanted = expected(tmp_path, path, vocab_size=size, **options)
    assert len(wanted[0]) > 4000
    assert output_bytes(tmp_path / "out_text_document") == wanted


def test_patterns_and_special_tokens_matter(vocabulary, tmp_path):
    """So the test above would see a flag that is ignored."""
    path, tokens = vocabulary
    size = tokens + 1000
    plain = expected(tmp_path, path, vocab_size=size)
    assert expected(tmp_path, path, vocab_size=size, pattern="v1") != plain
    special = ["[INST]", *SPECIAL]
    assert expected(tmp_path, path, vocab_size=size, special_tokens=special) != plain


def test_megatrons_training_builds_the_same_tokenizer(vocabulary, monkeypatch):
    from megatron.core.tokenizers.utils.build_tokenizer import build_tokenizer
    from megatron.training.arguments import parse_args

    from e2_tools.corpus.tiktoken import TiktokenOptions
    from e2_tools.corpus.tokenizer import load_megatron_tokenizer

    path, tokens = vocabulary
    flags = ["--tokenizer-type", TIKTOKEN, "--tokenizer-model", path, "--no-pad-vocab-size"]
    flags += ["--vocab-size", str(tokens + 50), "--tiktoken-num-special-tokens", "50"]
    flags += ["--tiktoken-pattern", "v1"]
    monkeypatch.setattr("sys.argv", ["pretrain_e2.py", *flags])
    args = parse_args(ignore_unknown_args=True)
    args.pad_vocab_size = False
    theirs = build_tokenizer(args)
    ours = load_megatron_tokenizer(TIKTOKEN, path, TiktokenOptions("v1", 50, None, tokens + 50))
    assert (ours.eod, ours.vocab_size) == (theirs.eod, theirs.vocab_size)
    for text in DOCUMENTS:
        assert ours.encode(text) == theirs.tokenize(text)


def test_loss_masks(vocabulary, tmp_path):
    path, tokens = vocabulary
    text = f"子曰 {SPEECH} 🎉</s> end"
    spans = [[1, 2], [5, 30], [text.index("🎉"), text.index("🎉") + 1]]
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"text": text, "loss_spans": spans}))
    command = arguments(str(source), tmp_path / "out", (TIKTOKEN, path))
    main([*command, "--vocab-size", str(tokens + 1000), "--loss-mask-key", "loss_spans"])
    ((ids,),) = read_documents(tmp_path / "out_text_document")
    ((mask,),) = read_documents(tmp_path / "out_text_document_loss_mask")
    # By bytes: a token counts if one of its bytes is a byte of a character within a span.
    counts = b"".join(
        bytes([any(b <= i < e for b, e in spans)]) * len(character.encode())
        for i, character in enumerate(text)
    )
    listed = json.loads(Path(path).read_text())
    at, wanted = 0, []
    for token in ids:
        size = len(base64.b64decode(listed[token - 1000]["token_bytes"])) if token >= 1000 else 4
        wanted.append(int(any(counts[at : at + size])))
        at += size
    assert at == len(counts)
    assert mask == wanted
    assert 0 < sum(mask) < len(mask)


def test_a_text_that_tiktoken_gives_up_on(vocabulary, tmp_path, capfd):
    path, tokens = vocabulary
    source = write_jsonl(tmp_path / "in.jsonl", ["a nation", " " * 1_000_000, "a war"])
    size = ("--vocab-size", str(tokens + 1000))
    command = arguments(source, tmp_path / "out", (TIKTOKEN, path), *size)
    refused(
        capfd,
        ["in.jsonl, line 2: the tokenizer refuses the text"],
        main,
        command,
        untouched=tmp_path,
    )
    main([*command, "--on-error", "skip"])
    captured = capfd.readouterr()
    assert f"skipped {source}, line 2: the tokenizer refuses" in captured.err
    assert len(read_documents(tmp_path / "out_text_document")) == 2


def test_samples_are_decoded(vocabulary, tmp_path, capsys):
    path, tokens = vocabulary
    source = write_jsonl(tmp_path / "in.jsonl", ["a new nation 🎉"])
    size = ("--vocab-size", str(tokens + 1000))
    main(arguments(source, tmp_path / "out", (TIKTOKEN, path), *size))
    inspect([str(tmp_path / "out_text_document"), "--tokenizer-model", path, *size])
    assert "'a new nation 🎉'" in capsys.readouterr().out


def test_refusals(vocabulary, tmp_path, capfd, tokenizers_by_name):
    path, tokens = vocabulary
    source = write_jsonl(tmp_path / "in.jsonl", ["a"])
    (tmp_path / "bad.json").write_text('{"model": {}}')
    (tmp_path / "gap.json").write_text(json.dumps(json.loads(Path(path).read_text())[1:]))
    size = ("--vocab-size", str(tokens + 1000))
    for model, flags, culprits in (
        (path, (), ["--vocab-size 131072, the default", f"{tokens + 1000:,} at most"]),
        (path, ("--vocab-size", str(tokens + 1001)), [f"--vocab-size {tokens + 1001}"]),
        (path, ("--vocab-size", "1000"), ["--vocab-size 1000", "1,256"]),
        (path, (*size, "--tiktoken-num-special-tokens", "3"), ["num-special-tokens 3"]),
        (path, (*size, "--tiktoken-special-tokens", "<s>"), ["lacks <unk>"]),
        (path, (*size, "--tiktoken-special-tokens", *SPECIAL, "<s>"), ["twice"]),
        (str(tmp_path / "bad.json"), size, ["bad.json", "JSON list"]),
        (str(tmp_path / "gap.json"), size, ["gap.json", "JSON list"]),
        (source, size, ["in.jsonl", ".json file"]),
    ):
        line = arguments(source, tmp_path / "out", (TIKTOKEN, model), *flags)
        refused(capfd, culprits, main, line, untouched=tmp_path)
    line = arguments(source, tmp_path / "out", tokenizers_by_name["hf"], *size)
    refused(
        capfd, ["--vocab-size: only with --tokenizer-type TikTok"], main, line, untouched=tmp_path
    )
