# SPDX-License-Identifier: Apache-2.0
"""evaluate_mrcr.py: which records a window asks, the score, both forms of the data, refusals."""

import json
import random
import re
from difflib import SequenceMatcher

import pytest
from matplotlib import image

from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_tools.commands import plot_results
from e2_tools.commands.evaluate_mrcr import main
from e2_tools.evaluation.mrcr.records import Record, grade, read_records
from tests.helpers.commands import refused
from tests.helpers.ruler_data import prose, save_model


def record(seed, needles, turns):
    """A row as the data set has it, its prompt as JSON."""
    source = random.Random(f"{seed}/{needles}")
    texts = [prose(source.random(), 25).strip() for _ in range(turns)]
    messages = [{"role": "user", "content": "Here are examples."}]
    for text in texts:
        messages += [{"role": "user", "content": "write a poem about tapirs"}]
        messages += [{"role": "assistant", "content": text}]
    start = "".join(source.choices("abcXYZ123", k=10))
    wish = f"Prepend {start} to the 2nd (1 indexed) poem about tapirs."
    messages.append({"role": "user", "content": f"{wish} Do not include any other text."})
    return {
        "prompt": json.dumps(messages),
        "answer": start + texts[1],
        "random_string_to_prepend": start,
        "n_needles": needles,
        "desired_msg_index": 4,
        "total_messages": len(messages),
        "n_chars": sum(map(len, texts)),
    }


ROWS = [record(n, needles, turns) for n in range(5) for needles in (2, 4) for turns in (8, 16, 40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("mrcr_model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("mrcr") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def asked(monkeypatch, folder):
    """A model that says the right thing where there are two needles, else half of it."""
    tokenizer, requests = load_hf_tokenizer(folder), []
    right = {row["random_string_to_prepend"]: row for row in ROWS}

    def answer(net, prompts, max_new_tokens, *, config, scale, shared):
        texts = [tokenizer.decode(prompt) for prompt in prompts]
        requests.extend(zip(prompts, texts, [max_new_tokens] * len(texts), strict=True))
        rows = [right[re.findall(r"Prepend (\w+) to", text)[-1]] for text in texts]
        blank = "" if texts[0].endswith("{x}") else " "
        said = [blank + row["answer"][: None if row["n_needles"] == 2 else 60] for row in rows]
        return [tokenizer(each, add_special_tokens=False).input_ids for each in said]

    monkeypatch.setattr("e2_tools.evaluation.retrieval.grid.generate", answer)
    return requests


def run(folder, data, output, *flags):
    arguments = ["--model", folder, "--output", output, "--device", "cpu", "--data", data, *flags]
    main([str(argument) for argument in arguments])
    return json.loads(output.read_text())


@pytest.mark.parametrize("chat", [[], ["--chat"]])
def test_a_window_asks_what_fills_it(folder, data, tmp_path, asked, capsys, chat):
    output, picture = tmp_path / "a.json", tmp_path / "a.png"
    flags = ["--windows", 1200, 2400, "--trials", 4, "--heat-map", picture, *chat]
    results = run(folder, data, output, *flags)
    assert results["schema"] == "e2-llm/mrcr/1"
    assert [(c["window"], c["task"]) for c in results["results"]] == [
        (window, task) for window in (1200, 2400) for task in ("2needle", "4needle")
    ]
    longest = max(new for *_, new in asked)
    for number, (ids, text, new) in enumerate(asked):
        window = (1200, 2400)[number // 8]
        assert window / 2 - longest < len(ids) <= window - new
        assert text.startswith(
            "<s>[user] Here" if chat else "<s>User: Here are examples.\n\nUser: "
        )
        assert text.endswith("{x}" if chat else "text.\n\nAssistant:")
    whole, half = (results["results"][place] for place in (0, 1))
    assert whole["score"] == 100
    assert not whole["wrong"]
    for wrong, score in zip(half["wrong"], half["scores"], strict=True):
        (reference,), said = wrong["references"], wrong["answer"]
        assert said == reference[:60]
        assert score == SequenceMatcher(None, said[10:], reference[10:]).ratio()
    assert image.imread(picture).ndim == 3
    assert "mean of 2" in capsys.readouterr().out
    asked.clear()
    assert run(folder, data, output, *flags, "--resume") == results
    assert not asked
    plot_results.main([str(output), "--table", "--output", str(picture)])
    assert "| window | 1200 | 2400 |" in capsys.readouterr().out


def test_parquet_is_the_same(data, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    assert read_records([path]) == read_records([data])
    assert list(read_records([path])) == ["2needle", "4needle"]


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("k7the poem", 1),
        ("the poem", 0),
        (" k7the poem", 0),
        ("k7", 0),
        ("k7the cat", 2 * 4 / 15),
        ("k7k7the poem", 2 * 8 / 18),
    ],
)
def test_the_published_score(answer, score):
    assert grade(answer, Record([], "k7the poem", "k7")) == pytest.approx(score)


def row(**changes):
    return json.dumps(ROWS[0] | changes)


MISTAKES = {
    "missing": ("{data}.no", [], ("--data", "cannot be read")),
    "empty": ("", [], ("--data", "no records")),
    "no JSON": ("{", [], ("--data", "line 1")),
    "no object": ("[]", [], ("record 1", "no object")),
    "no answer": (row(answer=None), [], ("record 1", "'answer'")),
    "no messages": (row(prompt="hello"), [], ("record 1", "'prompt'", "messages")),
    "other messages": (row(prompt=[{"role": "user"}]), [], ("record 1", "'prompt'")),
    "few records": (row(), ["--windows", 1200], ("--windows 1200", "--trials")),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line(folder, tmp_path, asked, capsys, case):
    content, flags, words = MISTAKES[case]
    path = tmp_path / "data.jsonl"
    if case != "missing":
        path.write_text(content)
    flags = ["--windows", 1200, *flags]
    refused(capsys, words, run, folder, path, tmp_path / "a.json", *flags, untouched=tmp_path)
    assert not asked


def test_no_chat_template(model, data, tmp_path, capsys):
    given = [model, data, tmp_path / "a.json", "--windows", 1200, "--chat"]
    refused(capsys, ("--chat", "no chat template"), run, *given, untouched=tmp_path)


def test_a_damaged_parquet(folder, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    path = tmp_path / "data.parquet"
    path.write_bytes(b"PAR1 and nothing")
    given = [folder, path, tmp_path / "a.json", "--windows", 1200]
    refused(capsys, ("--data", "cannot be read"), run, *given, untouched=tmp_path)
