# SPDX-License-Identifier: Apache-2.0
"""evaluate_ruler.py: its grid, what it resumes, its pictures, chat templates, refusals."""

import json
import re
import sys
from collections import Counter

import pytest
from matplotlib import image

from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_tools.commands import plot_results, report
from e2_tools.commands.evaluate_ruler import main
from e2_tools.evaluation.ruler.tasks import TASKS, for_one
from e2_tools.evaluation.ruler.words import word_list
from tests.helpers.commands import refused
from tests.helpers.ruler_data import save_all, save_model

BUDGETS = {task.family.max_new_tokens for task in TASKS.values()}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_all(tmp_path_factory.mktemp("ruler"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("ruler_model"))


@pytest.fixture
def asked(monkeypatch, folder):
    """What is asked of a model that answers in windows of at most 1,024 tokens."""
    tokenizer, requests = load_hf_tokenizer(folder), []

    def answer(net, prompts, max_new_tokens, *, config, scale, shared):
        texts = [tokenizer.decode(prompt) for prompt in prompts]
        requests.extend((scale, max_new_tokens, p, t) for p, t in zip(prompts, texts, strict=True))
        answers = [f" {solved(text)}" if len(prompts[0]) < 1024 else " " for text in texts]
        return [tokenizer(each, add_special_tokens=False).input_ids for each in answers]

    monkeypatch.setattr("e2_tools.evaluation.retrieval.grid.generate", answer)
    return requests


def solved(prompt):
    if "magic" in prompt:
        return re.search(r"for .+ is: (\w+)\.", prompt)[1]
    if "coded" in prompt:
        words = re.findall(r"\b[a-z]{6}\b", prompt[: prompt.rindex("Question")])
        counts = Counter(words) - Counter("coded appear words".split())
        named = [word for word, _ in counts.most_common(8)]
        return "\x01".join(named)  # no letter in it is a word's
    return "no idea"


def run(folder, output, *flags):
    arguments = ["--model", folder, "--output", output, "--device", "cpu", *flags]
    main([str(argument) for argument in arguments])
    return json.loads(output.read_text())


def test_grid_table_resume_pictures(folder, data, tmp_path, asked, capsys):
    output, picture = tmp_path / "run" / "ruler.json", tmp_path / "ruler.png"
    output.parent.mkdir()
    grid = ["--windows", 1024, 2048, "--trials", 3, "--batch-size", 2, "--heat-map", picture]
    run(folder, output, *grid, "--tasks", "niah_single_1", "fwe")
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert shown == [
        ["task", "1024", "2048"],
        ["g", "1", "2"],
        ["niah_single_1", "100.00", "0.00"],
        ["fwe", "100.00", "0.00"],
        ["mean", "of", "2", "100.00", "0.00"],
        "effective window: 1024 (means above 85.6 up to there)".split(),
    ]
    assert image.imread(picture).ndim == 3
    assert [(scale, new) for scale, new, *_ in asked] == [
        (scale, new) for scale in (1.0, 2.0) for new in (128, 50) for _ in range(3)
    ]
    # The window is without the BOS, as RULER counts.
    assert all(len(prompt) + new <= 1024 * scale + 1 for scale, new, prompt, _ in asked)
    asked.clear()

    tasks = ["niah_single_1", "fwe", "qa_1"]
    squad = ["--squad", data / "squad.json"]
    results = run(folder, output, *grid, "--resume", "--tasks", *tasks, *squad)
    assert {new for _, new, *_ in asked} == {32}
    cells = {(cell["window"], cell["task"]): cell for cell in results["results"]}
    assert list(cells) == [(window, task) for window in (1024, 2048) for task in tasks]
    assert results["schema"] == "e2-llm/ruler/1"
    assert results["seed"] == 42
    cell = cells[1024, "qa_1"]
    assert cell["scores"] == [0, 0, 0]
    assert [each["trial"] for each in cell["wrong"]] == [0, 1, 2]
    assert all(each["answer"].strip() == "no idea" for each in cell["wrong"])
    assert "effective window: -" in capsys.readouterr().out

    # Its file need not be named again, but may be no other.
    asked.clear()
    assert run(folder, output, *grid, "--resume", "--tasks", "fwe") == results
    assert not asked
    (tmp_path / "squad.json").write_text((data / "squad.json").read_text() + " ")
    again = [*grid, "--resume", "--tasks", "qa_1", "--squad", tmp_path / "squad.json"]
    refused(capsys, "squad was", run, folder, output, *again, untouched=tmp_path)
    refused(capsys, "chat was", run, folder, output, *grid, "--resume", "--chat", "--tasks", "fwe")
    refused(capsys, "seed was", run, folder, output, *grid, "--resume", "--seed", 1)

    for kind in ("retrieval", "depth"):
        words = [output, output, "--labels", "a", "b", "--kind", kind, "--table"]
        plot_results.main([str(word) for word in [*words, "--output", picture]])
    table, _ = capsys.readouterr().out.split("| --- | ---: | ---: |\n| a")[:2]
    assert "| window | 1024 | 2048 | effective |" in table
    assert "| a | 66.7 ± 0.0 | 0.0 ± 0.0 | - |" in table
    report.main([str(output.parent)])
    page = (output.parent / "report.html").read_text()
    assert "66.67" in page
    assert re.search(r">none(<sup>.*?</sup>)?\s*<small>66.7 % of 9 at 1,024", page)


def test_what_has_no_file_is_left_out_and_said(folder, tmp_path, asked, capsys):
    flags = ["--windows", 2048, "--trials", 1]
    results = run(folder, tmp_path / "a.json", *flags)
    without = [name for name, task in TASKS.items() if not task.needs]
    assert [cell["task"] for cell in results["results"]] == without
    told = capsys.readouterr()
    assert f"mean of {len(without)}" in told.out
    assert "niah_single_2" in told.err
    assert "qa_2" in told.err


def test_all_thirteen(folder, data, tmp_path, asked, monkeypatch):
    """Every prompt fits, and ends with the beginning of its answer."""
    monkeypatch.setattr("nltk.data.path", [str(data)])
    files = ["--haystack", data / "PaulGrahamEssays.json"]
    files += [w for name in ("squad", "hotpotqa") for w in (f"--{name}", data / f"{name}.json")]
    results = run(folder, tmp_path / "a.json", "--windows", 2048, "--trials", 1, *files)
    assert [cell["task"] for cell in results["results"]] == list(TASKS)
    assert {new for _, new, *_ in asked} == BUDGETS
    for (scale, new, prompt, text), task in zip(asked, TASKS.values(), strict=True):
        assert scale == 2
        assert len(prompt) + new <= 2049
        end = task.family.answer_prefix.rsplit("}", 1)[-1]
        assert text.endswith((end, for_one(end)))
    assert results["haystack"]["sentences"] == "punkt"


@pytest.mark.parametrize("task", ["niah_single_1", "vt", "cwe", "fwe"])
def test_chat(folder, tmp_path, asked, task):
    """The question stands in the template, the beginning of the answer behind it; one BOS."""
    run(folder, tmp_path / "a.json", "--windows", 3000, "--trials", 1, "--chat", "--tasks", task)
    ((_, new, prompt, text),) = asked
    assert text.startswith("<s>[user] ")
    assert prompt.count(0) == text.count("[user]") == 1 + (task == "cwe")  # which shows a dialogue
    _, answer = text.rsplit(" [end]You are asked: {x}", 1)
    prefix = TASKS[task].family.answer_prefix
    assert answer.startswith(prefix[: min(prefix.find("{") % len(prefix), 20)])
    assert len(prompt) + new <= 3000


def test_the_model_is_really_asked(folder, tmp_path):
    flags = ["--windows", 1024, "--trials", 2, "--batch-size", 2, "--tasks", "niah_multikey_3"]
    (cell,) = run(folder, tmp_path / "a.json", *flags)["results"]
    assert (cell["scale"], cell["score"], cell["trials"]) == (1, 0, 2)
    assert [len(each["references"][0]) for each in cell["wrong"]] == [36, 36]


@pytest.mark.parametrize(
    "task", ["niah_single_1", "niah_multikey_1", "vt", "cwe", "fwe", "qa_1", "qa_2"]
)
def test_a_window_too_small_is_told_before_anything_is_asked(
    folder, data, tmp_path, asked, capsys, task
):
    files = ["--haystack", data / "PaulGrahamEssays.json", "--sentences", "marks"]
    files += [w for name in ("squad", "hotpotqa") for w in (f"--{name}", data / f"{name}.json")]
    windows = [1024, 150] if task == "niah_single_1" else [150]
    flags = ["--windows", *windows, "--trials", 1, "--tasks", task, *files]
    given = [folder, tmp_path / "a.json", *flags]
    refused(capsys, ("--windows 150", "too small"), run, *given, untouched=tmp_path)
    assert not asked


MISTAKES = {
    "no haystack": (["--tasks", "niah_single_2"], ("--tasks niah_single_2", "--haystack")),
    "no squad": (["--tasks", "vt", "qa_1"], ("--tasks qa_1", "--squad")),
    "seed": (["--tasks", "fwe", "--seed", -1], "--seed -1"),
    "missing": (["--squad", "nosuch.json"], ("--squad nosuch.json", "cannot be read")),
    "missing, not read": (["--tasks", "fwe", "--squad", "no.json"], ("--squad no.json", "no such")),
    "no sentences": (["--sentences", "marks"], ("--sentences marks", "--haystack")),
    "no text": (["--haystack", "{object}"], ("object.json", "'text'")),
    "no words": (["--haystack", "{blank}", "--sentences", "marks"], ("blank.txt", "no words")),
    "no squad file": (["--squad", "{object}"], ("--squad", "object.json", "squad")),
    "squad, not JSON": (["--squad", "{blank}"], ("--squad", "blank.txt", "squad")),
    "no hotpotqa file": (["--hotpotqa", "{object}"], ("--hotpotqa", "hotpotqa")),
    "empty": (["--hotpotqa", "{list}"], ("--hotpotqa", "no questions")),
    "few questions": (["--hotpotqa", "{hotpotqa}", "--trials", 31], ("30 questions", "--trials")),
    "no words of English": (["--english-words", "{list}"], ("--english-words", "list.json")),
    "other words": (["--english-words", "{numbers}"], ("--english-words", "than words")),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line(folder, data, tmp_path, asked, capsys, case):
    flags, words = MISTAKES[case]
    contents = {
        "object.json": "{}",
        "blank.txt": " \n",
        "list.json": "[]",
        "numbers.json": '{"1": 2}',
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    names = {name.split(".")[0]: tmp_path / name for name in contents}
    names["hotpotqa"] = data / "hotpotqa.json"
    flags = [str(flag).format(**names) for flag in ["--windows", 2048, "--trials", 1, *flags]]
    refused(capsys, words, run, folder, tmp_path / "a.json", *flags, untouched=tmp_path)


def test_without_punkt_words_or_a_chat_template(
    folder, model_dir, data, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("nltk.data.path", [str(tmp_path)])
    essays = ["--windows", 2048, "--haystack", data / "PaulGrahamEssays.json"]
    words = ("--sentences punkt", "NLTK_DATA", "--sentences marks")
    refused(capsys, words, run, folder, tmp_path / "a.json", *essays, untouched=tmp_path)
    flags = ["--windows", 2048, "--tasks", "fwe"]
    given = [model_dir, tmp_path / "a.json", *flags, "--chat"]
    refused(capsys, ("--chat", "no chat template"), run, *given, untouched=tmp_path)
    monkeypatch.setitem(sys.modules, "wonderwords", None)
    word_list.cache_clear()
    given = [folder, tmp_path / "a.json", *flags]
    refused(capsys, "pip install wonderwords", run, *given, untouched=tmp_path)
