# SPDX-License-Identifier: Apache-2.0
"""evaluate_babilong.py: its grid, resuming, pictures, chat templates, refusals."""

import json
import re
import shutil

import pytest
from matplotlib import image

from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_tools.commands import plot_results
from e2_tools.commands.evaluate_babilong import main
from e2_tools.evaluation.babilong.prompts import MAX_NEW_TOKENS, TASKS
from tests.helpers.babilong_data import save_babi
from tests.helpers.commands import refused
from tests.helpers.ruler_data import prose, save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("babilong_model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("babilong_data")
    books = [json.dumps({"text": prose(seed, 3000)}) + "\n" for seed in range(3)]
    (folder / "books.jsonl").write_text("".join(books))
    save_babi(folder / "babi")
    return folder


@pytest.fixture
def asked(monkeypatch, folder):
    """What is asked of a model that answers qa1 only, always with the bathroom."""
    tokenizer, requests = load_hf_tokenizer(folder), []

    def answer(net, prompts, max_new_tokens, *, config, scale, shared):
        texts = [tokenizer.decode(prompt) for prompt in prompts]
        requests.extend(zip(prompts, texts, strict=True))
        assert max_new_tokens == MAX_NEW_TOKENS
        said = [" Bathroom." if "Where is" in text[-60:] else " no idea" for text in texts]
        return [tokenizer(each, add_special_tokens=False).input_ids for each in said]

    monkeypatch.setattr("e2_tools.evaluation.retrieval.grid.generate", answer)
    return requests


def run(folder, data, output, *flags):
    arguments = ["--model", folder, "--output", output, "--device", "cpu"]
    arguments += ["--babi", data / "babi", "--haystack", data / "books.jsonl", *flags]
    main([str(argument) for argument in arguments])
    return json.loads(output.read_text())


def test_grid_resume_and_pictures(folder, data, tmp_path, asked, capsys):
    output, picture = tmp_path / "a.json", tmp_path / "a.png"
    grid = ["--windows", 1500, 1800, "--trials", 2, "--heat-map", picture]
    run(folder, data, output, *grid, "--tasks", "qa1")
    results = run(folder, data, output, *grid, "--resume")
    assert len(asked) == 2 * 3 * 2
    assert results["schema"] == "e2-llm/babilong/1"
    cells = {(cell["window"], cell["task"]): cell for cell in results["results"]}
    assert list(cells) == [(window, task) for window in (1500, 1800) for task in TASKS]
    assert image.imread(picture).ndim == 3
    for window in (1500, 1800):
        lengths = [cells[window, task]["prompt_tokens"] for task in TASKS]
        assert all(window - 60 < length <= window - MAX_NEW_TOKENS for length in lengths)
        assert cells[window, "qa3"]["scores"] == [0, 0]
    ids, text = asked[0]
    assert text.startswith("<s>I will give you context")
    assert re.search(r"</context>\n\nQuestion: Where is \w+\?$", text)
    right = [w["references"] for w in cells[1500, "qa1"]["wrong"]]
    assert ["bathroom"] not in right
    shown = [line.split() for line in capsys.readouterr().out.splitlines()][-6:]
    assert [row[0] for row in shown] == ["task", "g", "qa1", "qa2", "qa3", "mean"]

    for kind in ("retrieval", "depth"):
        words = [output, output, "--labels", "a", "b", "--kind", kind, "--table"]
        plot_results.main([str(word) for word in [*words, "--output", picture]])
    assert "effective" not in capsys.readouterr().out
    other = [folder, data, output, *grid, "--resume", "--haystack", tmp_path / "a.txt"]
    (tmp_path / "a.txt").write_text(prose(9, 3000))
    refused(capsys, "haystack was", run, *other, untouched=tmp_path)


def test_chat(folder, data, tmp_path, asked):
    run(folder, data, tmp_path / "a.json", "--windows", 1500, "--trials", 2, "--chat")
    for ids, text in asked:
        assert text.startswith("<s>[user] I ")
        assert text.endswith(" [end]You are asked: {x}")
        assert ids.count(0) == 1
        assert len(ids) <= 1500 - MAX_NEW_TOKENS


def test_the_model_is_really_asked(folder, data, tmp_path):
    flags = ["--windows", 1100, "--trials", 2, "--tasks", "qa1", "--batch-size", 2]
    (cell,) = run(folder, data, tmp_path / "a.json", *flags)["results"]
    assert (cell["scale"], cell["trials"]) == (2, 2)


MISTAKES = {
    "no folder": (["--babi", "nosuch"], ("--babi nosuch", "en-10k")),
    "no file": (["--babi", "{empty}"], ("--babi", "qa1_single-supporting-fact_train.txt")),
    "none of bAbI's": (["--babi", "{broken}"], ("--babi", "line 2", "unpack")),
    "begins amid a story": (["--babi", "{amid}"], ("--babi", "line 1", "unpack")),
    "seed": (["--seed", -1], "--seed -1"),
    "no text": (["--haystack", "nosuch.txt"], ("--haystack nosuch.txt", "cannot be read")),
    "no sentences": (["--haystack", "{words}"], ("--haystack", "sentences")),
    "small window": (["--windows", 300], ("--windows 300", "qa1", "larger")),
    "many trials": (["--trials", 1000], ("--windows 1500", "fewer", "--trials")),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line(folder, data, tmp_path, asked, capsys, case):
    flags, words = MISTAKES[case]
    names = {name: tmp_path / name for name in ("empty", "broken", "amid", "words")}
    names["empty"].mkdir()
    for name in ("broken", "amid"):
        shutil.copytree(data / "babi", names[name])
        (file,) = names[name].glob("qa2*")
        lines = file.read_text().splitlines()
        lines[1] = "nothing\n" if name == "broken" else lines[1]
        file.write_text("\n".join(lines[name == "amid" :]))
    names["words"].write_text("one two three. " * 50)
    flags = [str(flag).format(**names) for flag in ["--windows", 1500, "--trials", 1, *flags]]
    refused(capsys, words, run, folder, data, tmp_path / "a.json", *flags, untouched=tmp_path)
    assert not asked
