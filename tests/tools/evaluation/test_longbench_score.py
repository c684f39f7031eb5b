# SPDX-License-Identifier: Apache-2.0
"""LongBench's metrics, rule by rule, and the averages over tasks."""

import json

import pytest

from e2_tools.commands.evaluate_longbench import main
from e2_tools.evaluation.longbench import metrics as m
from e2_tools.evaluation.longbench.score import averages
from e2_tools.evaluation.longbench.tasks import AVERAGES, TASKS
from tests.helpers.commands import refused


def record(pred, *answers, classes=None, length=100):
    return {"pred": pred, "answers": answers, "all_classes": classes, "length": length}


def score(folder, *flags, **predictions):
    folder.mkdir(exist_ok=True)
    for task, records in predictions.items():
        path = folder / f"{task.replace('__', '-')}.jsonl"
        path.write_text("".join(json.dumps(each) + "\n" for each in records))
    main(["score", "--predictions", str(folder), *flags])
    return json.loads((folder / "result.json").read_text())


# --- question answering ---


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("The Cat, sat.", "a cat sat", 1.0),  # case, punctuation and articles do not count
        ("cat", "cat sat", 2 / 3),  # precision 1, recall 1/2
        ("cat cat dog", "cat", 1 / 2),  # a word counts as often as both have it
        ("don't", "dont", 1.0),  # punctuation vanishes, it does not split
        ("theatre", "atre", 0.0),  # articles are whole words
        ("", "cat", 0.0),
        ("the", "an", 0.0),  # nothing left of either
        ("“cat”", "cat", 0.0),  # only ASCII punctuation
    ],
)
def test_qa_f1(prediction, answer, expected):
    assert m.qa_f1(prediction, answer) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("\n\n曹雪芹", "曹雪芹", 1.0),
        ("曹雪芹。", "「曹雪芹」》", 1.0),  # full-width punctuation does not count
        ("曹雪芹", "《曹雪芹》", 2 / 3),  # but for the left one of these
        ("今天很好", "今天", 1 / 2),  # jieba: 今天 | 很 | 好
        ("ABC 公司", "abc公司", 1.0),
        ("", "今天", 0.0),
        ("，。", "今天", 0.0),
    ],
)
def test_qa_f1_zh(prediction, answer, expected):
    assert m.qa_f1_zh(prediction, answer) == pytest.approx(expected)


# --- summaries ---


def test_rouge_is_l_of_the_package_rouge():
    # LCS "a c" of 3 and 2 distinct words: p = 2/3, r = 1
    assert m.rouge("a b c", "a c") == pytest.approx(0.8, abs=1e-6)
    assert m.rouge("Cat", "cat") == 0.0  # case counts
    assert m.rouge("cat", "cats") == 0.0  # no stemming
    # Union over sentences, which end at full stops, so their order does not count: not Google's.
    assert m.rouge("c d. a b.", "a b. c d.") == pytest.approx(1.0, abs=1e-6)
    # repetitions count once
    assert m.rouge("a a a a", "a") == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("empty", ["", ".", "...", "\n\n"])
def test_rouge_of_nothing_is_zero(empty):
    assert m.rouge(empty, "a b") == m.rouge("a b", empty) == m.rouge_zh(empty, "今天") == 0.0


def test_rouge_beyond_the_packages_recursion_is_zero():
    one, other = ("a " + " ".join(f"{x}{n}" for n in range(550)) for x in "xy")
    assert m.rouge(one, other) == 0.0
    assert m.rouge(one[:200], other[:200]) > 0.0


def test_rouge_zh_is_over_jiebas_words():
    # 会议 讨论 预算 against 会议 预算
    assert m.rouge_zh("会议讨论预算", "会议预算") == pytest.approx(4 / 5, abs=1e-6)


# --- classes ---


@pytest.mark.parametrize(
    ("prediction", "answer", "classes", "expected"),
    [
        ("Food", "Food", ["Food", "Date"], 1.0),
        ("Food or Date", "Food", ["Food", "Date"], 1 / 2),
        ("Date", "Food", ["Food", "Date"], 0.0),
        ("food", "Food", ["Food", "Date"], 0.0),  # no look for the most similar: case counts
        ("", "Food", ["Food", "Date"], 0.0),
        # part of the answer's name: dropped
        ("Food and drink", "Food and drink", ["Food", "Food and drink"], 1.0),
        # the answer is part of another name: that one stays
        ("Food and drink", "Food", ["Food", "Food and drink"], 1 / 2),
        # the quirk: of two to drop in a row, the second is passed over
        ("a b c", "a b c", ["a", "b", "a b c"], 1 / 2),
        ("a b c", "a b c", ["a", "b", "c", "a b c"], 1 / 2),
        ("a b c", "a b c", ["a", "a b c", "b"], 1.0),
        ("财经新闻", "财经新闻", ["财经", "财经新闻"], 1.0),
    ],
)
def test_classification(prediction, answer, classes, expected):
    before = list(classes)
    assert m.classification(prediction, answer, classes) == pytest.approx(expected)
    assert classes == before


# --- numbers and code ---


def test_count_and_retrieval_are_shares_of_the_numbers():
    assert m.count("3", "3") == 1.0
    assert m.count("3, or 4, or 3", "3") == pytest.approx(2 / 3)
    assert m.count("03", "3") == m.count("three", "3") == m.count("", "3") == 0.0
    assert m.retrieval("Paragraph 12", "Paragraph 12") == 1.0
    assert m.retrieval("12 and 1", "Paragraph 12") == 1 / 2
    assert m.retrieval("Paragraph 1", "Paragraph 12") == 0.0
    assert m.retrieval_zh("段落3", "段落3") == 1.0
    assert m.retrieval_zh("", "段落3") == 0.0


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("x = 1\ny = 2", "x = 1", 1.0),
        ("\n\nx = 1", "x = 1", 1.0),
        ("```python\n# set\n// set\nx = 1", "x = 1", 1.0),
        ("x = 1  # one\ny", "x", 0.0),  # a line with a mark is passed over whole
        (" \nx = 1", "x = 1", 0.33),  # a blank line that is not leading is the line
        ("# only", "x", 0.0),
        ("", "", 1.0),
        ("abcd", "bcde", 0.75),  # 2 * 3 / 8
        ("ab", "ac1", 0.4),
        ("abcdef", "abcdeg1", 0.77),  # 10 / 13, to whole percents
        ("b" + "a" * 250, "a" * 250, 0.0),  # difflib passes over what is frequent in 200 or more
    ],
)
def test_code_sim(prediction, answer, expected):
    assert m.code_sim(prediction, answer) == expected


# --- tasks and files ---


def test_the_best_answer_counts_and_the_first_line_of_four_tasks(tmp_path):
    first = record("\n\nParis\nQuestion: who?", "London", "Paris")
    assert score(tmp_path / "a", triviaqa=[first])["triviaqa"] == 100.0
    assert score(tmp_path / "b", qasper=[first])["qasper"] == 50.0
    assert [task.name for task in TASKS.values() if task.first_line] == [
        "trec",
        "triviaqa",
        "samsum",
        "lsht",
    ]


def test_result_json_is_longbenchs(tmp_path, capsys):
    result = score(
        tmp_path,
        trec=[record("\nFood\nx", "Food", classes=["Food"]), record("", "Food", classes=["Food"])],
        qasper=[record("x", "x"), record("y", "x"), record("x", "x")],
        repobench__p=[record("ab", "ac1")],
        hotpotqa=[record("x")],  # without an answer: nothing to win
    )
    assert list(result.items()) == [
        ("qasper", 66.67),
        ("hotpotqa", 0.0),
        ("trec", 50.0),
        ("repobench-p", 40.0),
    ]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["schema"] == "e2-llm/longbench/1"
    assert summary["tasks"] == result
    # Of one record, or of equal scores, none is known.
    errors = {"qasper": 100 * (1 / 9) ** 0.5, "trec": 50.0, "hotpotqa": None, "repobench-p": None}
    assert summary["standard_errors"] == pytest.approx(errors)
    assert [summary[name] for name in ("EN", "ZH", "All")] == [None, None, None]
    assert len(summary["missing"]) == 18 - 4
    # predictions that somebody else made
    assert (summary["label"], summary["iteration"]) == (tmp_path.name, None)
    assert summary["predictions"] is None
    assert summary["provenance"]["versions"]["python"]
    told = capsys.readouterr()
    assert "of 14 tasks 10 are missing" in told.out
    # as LongBench's sets are larger
    rows = [line.split() for line in told.out.splitlines()]
    assert rows[:2] == [["task", "records", "score"], ["qasper", "3", "of", "200", "66.67"]]


def test_empty_and_chinese_predictions_of_every_task(tmp_path):
    """An empty answer scores nothing but in code, where nothing is like nothing; all in a file."""
    rows = {
        "narrativeqa": record("", "cat"),
        "multifieldqa_zh": record("", "今天"),
        "gov_report": record("", "a b"),
        "vcsum": record("", "今天"),
        "trec": record("\n\n", "Food", classes=["Food"]),
        "lsht": record("", "财经", classes=["财经", "体育"]),
        "samsum": record("\n", "a b"),
        "passage_count": record("", "3"),
        "passage_retrieval_zh": record("", "段落3"),
        "lcc": record("\n", ""),
    }
    result = score(tmp_path / "empty", **{task: [row] for task, row in rows.items()})
    assert result == dict.fromkeys(rows, 0.0) | {"lcc": 100.0}
    rows = {
        "multifieldqa_zh": [record("\n曹雪芹。", "贾宝玉", "曹雪芹"), record("", "今天")],
        "dureader": [record("会议讨论预算", "会议预算", "不")],
        "lsht": [record("\n财经新闻\n体育", "财经新闻", classes=["财经", "财经新闻", "体育"])],
        "passage_retrieval_zh": [record("段落3，或段落4", "段落3")],
    }
    result = score(tmp_path / "chinese", **rows)
    assert result == {
        "multifieldqa_zh": 50.0,
        "dureader": 80.0,
        "lsht": 100.0,
        "passage_retrieval_zh": 50.0,
    }


def test_the_papers_averages_are_plain_means_over_14_4_and_18(tmp_path):
    assert [len(tasks) for tasks in AVERAGES.values()] == [14, 4, 18]
    # E2-LLM-7B-16k's row of tables 1 and 2, and its published averages
    values = (16.4, 34.7, 39.1, 43.6, 37.1, 34.4, 17.9, 18.6, 29.4, 23.0, 25.9, 9.6)
    values += (68.5, 89.2, 38.2, 35.0, 65.8, 58.1)  # in the tables' order, which is LongBench's
    row = dict(zip(AVERAGES["All"], values, strict=True))
    assert averages(row) == {"EN": 41.26, "ZH": 26.7, "All": 38.03}


def test_longbench_e_has_buckets(tmp_path):
    lengths = (0, 3999, 4000, 7999)
    rows = [record(p, "x", length=n) for p, n in zip(("x", "y", "x", "x"), lengths, strict=True)]
    result = score(tmp_path, "--e", qasper=rows)
    assert result == {"qasper": {"0-4k": 50.0, "4-8k": 100.0, "8k+": None}}
    assert not (tmp_path / "summary.json").exists()


def test_21_tasks_of_which_13_are_longbench_es():
    assert len(TASKS) == 21
    assert sum(task.longbench_e for task in TASKS.values()) == 13
    assert {task.metric for task in TASKS.values()} == m.METRICS.keys()
    for task in TASKS.values():
        assert task.prompt.count("{context}") == 1
        assert task.prompt.format(context="", input="")
    assert TASKS["passage_count"].prompt.endswith("is: ")
    assert TASKS["lcc"].prompt.endswith("code:\n")
    assert "\n\n{input}" in TASKS["triviaqa"].prompt


@pytest.mark.parametrize(
    ("name", "line", "flags", "words"),
    [
        ("nosuch.jsonl", "{}", [], ("nosuch.jsonl", "'nosuch'", "qasper")),
        ("musique.jsonl", "{}", ["--e"], ("'musique'", "LongBench-E")),
        ("qasper.jsonl", "", [], ("qasper.jsonl", "is empty")),
        ("qasper.jsonl", "{", [], ("line 1", "not JSON")),
        ("qasper.jsonl", "[]", [], ("line 1", "no JSON object")),
        ("qasper.jsonl", '{"pred": "x"}', [], ("line 1", "'answers'")),
        ("qasper.jsonl", json.dumps(record(None, "x")), [], ("'pred'", "wrong type")),
        ("qasper.jsonl", json.dumps(record("x", 3)), [], ("'answers'", "no list of texts")),
        ("trec.jsonl", json.dumps(record("x", "y")), [], ("trec.jsonl", "all_classes")),
        ("passage_retrieval_en.jsonl", json.dumps(record("x", "3")), [], ("record 1", "Paragraph")),
    ],
)
def test_bad_predictions_are_one_line(tmp_path, capsys, name, line, flags, words):
    (tmp_path / name).write_text(line + "\n")
    command = ["score", "--predictions", str(tmp_path), *flags]
    refused(capsys, words, main, command, untouched=tmp_path)


def test_no_predictions(tmp_path, capsys):
    for folder, word in ((tmp_path, "no prediction file"), (tmp_path / "x", "no such folder")):
        command = ["score", "--predictions", str(folder)]
        refused(capsys, word, main, command, untouched=tmp_path)
