# SPDX-License-Identifier: Apache-2.0
"""Key tokens: the choice and the number against a naive loop, other tokenizers, the list's file.

The published code runs in the slow test, if ``E2_LONGPPL`` names a checkout of PKU-ML/LongPPL.
"""

import importlib.util
import json
import math
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from e2_tools.commands.evaluate_perplexity import main
from e2_tools.commands.plot_results import main as plot
from e2_tools.commands.report import main as report
from e2_tools.evaluation.key_tokens.spans import merged, within
from tests.helpers.commands import call, refused
from tests.helpers.word_model import BOS, evaluate, make_documents, write_data

LONGPPL = os.environ.get("E2_LONGPPL")
# Not multiples: the last short window of a document is shorter than the others.
K, D, GAIN, LOSS = 24, 7, 0.4, 5.0
RULE = ["--short-context", K, "--short-step", D, "--min-gain", GAIN, "--max-loss", LOSS]
WINDOW = 512


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data.jsonl", make_documents(60, 5, 44))


def texts(data):
    return [json.loads(line)["text"] for line in data.read_text().splitlines()]


def run(path, data, tmp_path, *flags, keys="keys.json", name="r.json"):
    flags = ["--windows", WINDOW, "--scale", "none", "--key-tokens", tmp_path / keys, *flags]
    return evaluate(path, data, tmp_path / name, *flags)


def loss_of_last(model, ids):
    """By transformers' own labels."""
    labels = torch.full((1, len(ids)), -100)
    labels[0, -1] = ids[-1]
    with torch.no_grad():
        return model(torch.tensor([ids]), labels=labels).loss.item()


def naive_spans(folder, text, gain, loss):
    """The places of key tokens, by a forward pass of its own for every token and context."""
    model, tokenizer = (
        kind.from_pretrained(folder) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, spans = [BOS, *found.input_ids], []
    for i in range(K, len(ids)):
        long = loss_of_last(model, ids[: i + 1])
        short = loss_of_last(model, ids[(i - K) // D * D : i + 1])
        if short - long > gain and long < loss:
            spans.append(tuple(found.offset_mapping[i - 1]))
    return spans


def naive_longppl(folder, chosen):
    """exp of the mean loss of the tokens whose every character is in a span, without a BOS."""
    model, tokenizer = (
        kind.from_pretrained(folder) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    losses = []
    for text, spans in chosen:
        characters = {place for begin, end in spans for place in range(begin, end)}
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        for i, (begin, end) in enumerate(found.offset_mapping):
            if i and characters.issuperset(range(begin, end)):
                losses.append(loss_of_last(model, found.input_ids[: i + 1]))
    return math.exp(sum(losses) / len(losses)), len(losses)


@pytest.fixture(scope="module")
def both(model, model_dir):
    """The byte model and the word model."""
    return {"bytes": model, "words": model_dir}


@pytest.mark.parametrize(
    ("evaluator", "scored", "gain", "loss"),
    [
        ("words", "words", GAIN, LOSS),
        ("bytes", "bytes", GAIN, LOSS),
        ("words", "bytes", GAIN, LOSS),
        ("bytes", "words", 0.001, 99.0),  # many, so that whole words are among them
    ],
)
def test_the_choice_and_the_number_equal_a_naive_loop(
    both, data, tmp_path, capsys, evaluator, scored, gain, loss
):
    flags = ["--evaluator", both[evaluator], "--evaluator-scale", "none", "--no-bos", *RULE]
    results = run(both[scored], data, tmp_path, *flags, "--min-gain", gain, "--max-loss", loss)
    spans = [naive_spans(both[evaluator], text, gain, loss) for text in texts(data)]
    content = json.loads((tmp_path / "keys.json").read_text())
    found = content["documents"]
    assert [each["key_tokens"] for each in found] == list(map(len, spans))
    assert [list(zip(each["begin"], each["end"], strict=True)) for each in found] == [
        merged(each) for each in spans
    ]
    assert sum(map(len, spans)) > 4
    assert not spans[1]  # too short to have any

    expected, count = naive_longppl(both[scored], zip(texts(data), spans, strict=True))
    (row,) = results["results"]
    assert row["perplexity_key_tokens"] == pytest.approx(expected, rel=1e-6)
    assert row["tokens_key_tokens"] == results["key_tokens"]["scored"] == count
    assert sum(row["documents"]["count_key_tokens"]) == count
    assert results["key_tokens"]["chosen"] == sum(map(len, spans))
    told = capsys.readouterr()
    assert str(count) in told.out.split()[-1]
    assert ("another tokenizer" in told.err) == (evaluator != scored)


def test_spans():
    assert merged([]) == []
    assert merged([(0, 2), (2, 5), (6, 7), (7, 8), (8, 8)]) == [(0, 2 + 3), (6, 8)]
    spans = [(2, 5), (5, 5), (8, 12)]
    tokens = [(0, 2), (1, 3), (2, 3), (3, 5), (4, 6), (6, 8), (8, 9), (9, 12), (11, 13), (13, 14)]
    assert within(tokens, spans).tolist() == [
        any(begin >= low and end <= high for low, high in spans) for begin, end in tokens
    ]
    assert not within(tokens, []).any()
    assert within([], spans).tolist() == []


def test_tokens_that_share_a_character_are_key_together(model, tmp_path):
    """An evaluator of bytes may choose one byte of an é; both have its place, as published."""
    assert within([(0, 1), (1, 2), (1, 2), (2, 3)], [(1, 2)]).tolist() == [False, True, True, False]
    assert within([(0, 1), (1, 2), (1, 2)], merged([(1, 2), (1, 2)])).tolist() == [
        False,
        True,
        True,
    ]


def test_the_list_is_chosen_once_for_all_models(both, data, tmp_path):
    flags = ["--evaluator", both["words"], *RULE]
    cut = ["--max-document-tokens", 50, "--max-documents", 2]
    first = run(both["words"], data, tmp_path, *flags, *cut)
    written = (tmp_path / "keys.json").read_bytes()
    (long, short) = json.loads(written)["documents"]
    assert (long["tokens"], short["tokens"]) == (50, 6)  # with a BOS
    assert texts(data)[0][long["characters"] :].startswith(" ")
    again = run(both["words"], data, tmp_path, *flags, *cut, name="again.json")
    without = run(both["words"], data, tmp_path, *cut, name="without.json")
    other = run(both["bytes"], data, tmp_path, *cut, name="other.json")
    assert (tmp_path / "keys.json").read_bytes() == written
    for each in (again, without):
        assert each["results"][0]["nll"] == first["results"][0]["nll"]
        assert each["key_tokens"] == first["key_tokens"]
    # The same characters, though 50 of its tokens would be fewer.
    assert other["documents"]["tokens"] == [1 + long["characters"], 1 + short["characters"]]


def test_at_smaller_windows_the_same_tokens_are_scored(both, data, tmp_path):
    flags = ["--evaluator", both["bytes"], *RULE, "--windows", 32, 128, 512, "--stride", 8]
    rows = run(both["bytes"], data, tmp_path, *flags)["results"]
    assert len({row["tokens_key_tokens"] for row in rows}) == 1
    assert len({row["perplexity_key_tokens"] for row in rows}) == 3


def test_resuming_needs_the_same_key_tokens(both, data, tmp_path, capsys):
    flags = ["--evaluator", both["words"], *RULE]
    first = run(both["words"], data, tmp_path, *flags)
    more = ["--windows", WINDOW, "--resume"]
    line = [*("--model", both["words"], "--data", data, "--output", tmp_path / "r.json"), *more]
    line += ["--scale", "none", "--device", "cpu"]
    refused(capsys, ["key_tokens differ"], call, main, *line, alone=False)
    again = run(both["words"], data, tmp_path, "--resume")
    assert again["results"] == first["results"]


def test_what_is_drawn_and_told(both, data, tmp_path, capsys):
    run(both["words"], data, tmp_path, "--evaluator", both["words"], *RULE)
    scored = json.loads((tmp_path / "r.json").read_text())
    picture = ["--output", str(tmp_path / "p.png"), "--metric", "perplexity_key_tokens", "--table"]
    collect = ["--collect", str(tmp_path / "c.json")]
    capsys.readouterr()
    plot([str(tmp_path / "r.json"), *picture, *collect])
    table = capsys.readouterr().out
    assert f"{scored['results'][0]['perplexity_key_tokens']:.2f}" in table
    plot([str(tmp_path / "c.json"), *picture])
    assert capsys.readouterr().out == table
    report([str(tmp_path), "--output", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text()
    assert "LongPPL" in page
    assert f"{scored['results'][0]['perplexity_key_tokens']:,.2f}" in page
    assert f"<td>{scored['key_tokens']['scored']}</td>" in page
    capsys.readouterr()
    # Files without such tokens, and others chosen otherwise.
    evaluate(both["words"], data, tmp_path / "plain.json", "--windows", WINDOW)
    refused(capsys, ["--key-tokens"], call, plot, tmp_path / "plain.json", *picture)
    flags = ["--evaluator", both["words"], *RULE[:-1], 3.5]
    run(both["words"], data, tmp_path, *flags, keys="k2.json", name="r2.json")
    capsys.readouterr()
    plot([str(tmp_path / "r.json"), str(tmp_path / "r2.json"), *picture])
    assert "differ in key_tokens" in capsys.readouterr().err


# --- what is refused ---


def command(both, data, tmp_path, *flags):
    words = ["--model", both["words"], "--data", data, "--windows", WINDOW, "--device", "cpu"]
    return [*words, "--output", tmp_path / "new" / "r.json", *flags]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--evaluator", "{}"], ["--evaluator", "add --key-tokens"]),
        (["--min-gain", "1"], ["--min-gain", "add --key-tokens"]),
        (["--key-tokens", "no.json"], ["no.json", "no such file", "--evaluator"]),
        (["--key-tokens", "{tmp}"], ["{tmp}"]),
        (["--key-tokens", "no.json", "--protocol", "yarn"], ["--key-tokens", "yarn", "press"]),
        (["--key-tokens", "{tmp}/new/r.json", "--evaluator", "{}"], ["--output"]),
        (
            ["--key-tokens", "{tmp}/k", "--evaluator", "{tmp}/none"],
            ["no such folder", "--evaluator"],
        ),
        (["--key-tokens", "{tmp}/k", "--evaluator", "{}"], ["no key token", "--short-context"]),
    ],
)
def test_flags(both, data, tmp_path, capsys, flags, words):
    flags = [
        flag.replace("{}", str(both["words"])).replace("{tmp}", str(tmp_path)) for flag in flags
    ]
    words = [word.replace("{tmp}", str(tmp_path)) for word in words]
    refused(capsys, words, call, main, *command(both, data, tmp_path, *flags), alone=False)
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "x"])
def test_nats_that_are_none(both, data, tmp_path, capsys, value):
    flags = ["--key-tokens", tmp_path / "k", "--evaluator", both["words"], "--max-loss", value]
    with pytest.raises(SystemExit) as stop:
        call(main, *command(both, data, tmp_path, *flags))
    assert stop.value.code == 2
    assert "--max-loss" in capsys.readouterr().err


def changed(**changes):
    """A list with other entries."""

    def change(content):
        for name, value in changes.items():
            where = content["documents"][0] if name in content["documents"][0] else content
            where[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "flags", "words"),
    [
        (None, ["--max-documents", 1], ["--max-documents not given", "now it is 1"]),
        (None, ["--json-key", "body"], ["--json-key text"]),
        (None, ["--short-context", 25], ["--short-context 24"]),
        (None, ["--evaluator", "words", *RULE[:-1], 3.0], ["--max-loss 5.0", "3.0"]),
        (None, ["--evaluator", "bytes", *RULE], ["--evaluator"]),
        (None, ["--evaluator", "words", *RULE, "--dtype", "bf16"], ["--dtype fp32", "bf16"]),
        (None, ["--evaluator", "words", *RULE, "--evaluator-scale", 2], ["--evaluator-scale auto"]),
        (changed(tokenizer="0" * 64), ["--evaluator", "words", *RULE], ["another tokenizer"]),
        (changed(sha256="0" * 64), [], ["another text than line 1"]),
        (changed(line=9), [], ["another text than line 9"]),
        (changed(begin=[]), [], ["no whole list"]),
        (changed(documents=[]), [], ["no whole list"]),
        (changed(begin=[0], end=[0]), [], ["holds a token"]),
        (changed(schema="e2-llm/perplexity/1"), [], ["schema"]),
    ],
)
def test_a_list_of_something_else(both, data, tmp_path, capsys, change, flags, words):
    run(both["words"], data, tmp_path, "--evaluator", both["words"], *RULE)
    path = tmp_path / "keys.json"
    content = json.loads(path.read_text())
    if change:
        content["documents"] = content["documents"][:1]
        change(content)
        path.write_text(json.dumps(content))
    written = path.read_bytes()
    flags = [both.get(flag, flag) for flag in flags]
    line = command(both, data, tmp_path, "--key-tokens", path, *flags)
    refused(capsys, ["keys.json", *words], call, main, *line)
    assert path.read_bytes() == written
    assert not (tmp_path / "new").exists()


# --- beside the published code ---


@pytest.mark.slow
@pytest.mark.skipif(not LONGPPL, reason="E2_LONGPPL names no checkout of PKU-ML/LongPPL")
def test_equals_the_published_code(model, tmp_path):
    """10,000 tokens of a tiny random model; 2,500 of one that E2_LONGPPL_MODEL names.

    The published code holds all logits: of 10,000 tokens these can be many gigabytes.
    """
    spec = importlib.util.spec_from_file_location("longppl", Path(LONGPPL, "longppl", "longppl.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    named = os.environ.get("E2_LONGPPL_MODEL")
    folder = Path(named) if named else model
    gain, loss = (2.0, 2.0) if named else (0.5, 4.0)
    length, short, step = (2500, 512, 500) if named else (10_000, 1024, 1000)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pages = sorted((Path(__file__).parents[3] / "docs").glob("*.md"))
    text = "\n".join(page.read_text() for page in pages)
    places = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    text = text[: places[length - 1][1]]
    its_own = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    theirs = module.compute_longppl(
        text,
        its_own,
        its_own,
        tokenizer,
        tokenizer,
        save_path=tmp_path / "theirs.txt",
        trunc_len=short,
        sliding_window=step,
        alpha=gain,
        beta=-loss,
    )
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"text": text}))
    rule = ["--short-context", short, "--short-step", step, "--min-gain", gain, "--max-loss", loss]
    flags = ["--evaluator", folder, "--evaluator-scale", "none", "--no-bos", *rule]
    flags += ["--windows", length]
    results = run(folder, data, tmp_path, *flags)
    (document,) = json.loads((tmp_path / "keys.json").read_text())["documents"]
    spans = [[begin, end] for begin, end in zip(document["begin"], document["end"], strict=True)]
    assert spans == json.loads(f"[{(tmp_path / 'theirs.txt').read_text().replace(';', ',')}]")
    (row,) = results["results"]
    assert row["tokens_key_tokens"] == theirs["n_key_token"] > 4
    assert row["perplexity_key_tokens"] == pytest.approx(float(theirs["longppl"]), rel=1e-6)
    assert row["perplexity"] == pytest.approx(float(theirs["ppl"]), rel=1e-6)
