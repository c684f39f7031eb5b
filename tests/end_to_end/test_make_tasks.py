# SPDX-License-Identifier: Apache-2.0
"""examples/evaluation/make_tasks.py: LongBench's fields, answers that can be found."""

import importlib.util
import json

import pytest

from e2_tools.evaluation.longbench.prompts import read_task
from e2_tools.evaluation.longbench.tasks import TASKS
from tests.helpers import ROOT
from tests.helpers.commands import refused

# of LongBench's records, in its order
FIELDS = ["input", "context", "answers", "length"]
FIELDS += ["dataset", "language", "all_classes", "_id"]
FIELDS += ["made_by"]  # and ours


@pytest.fixture(scope="module")
def make_tasks():
    place = ROOT / "examples" / "evaluation" / "make_tasks.py"
    spec = importlib.util.spec_from_file_location("make_tasks", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def texts(tmp_path):
    paths = []
    for name in ("1790-Ann-1", "1800-Bob-1", "1801-Bob-2"):
        paths.append(tmp_path / f"{name}.txt")
        words = [f"{name[5:].lower()}-{n}{'. So' if n % 12 == 11 else ''}" for n in range(3000)]
        paths[-1].write_text(" ".join(words))
    return paths


def made(make_tasks, texts, output, *flags):
    arguments = ["--text", *texts, "--output", output, *flags]
    make_tasks([str(argument) for argument in arguments])
    return {
        path.stem: [json.loads(line) for line in path.read_bytes().splitlines()]
        for path in sorted(output.iterdir())
    }


def test_records_are_longbenchs_and_their_answers_can_be_found(make_tasks, texts, tmp_path):
    output = tmp_path / "out"
    tasks = made(make_tasks, texts, output, "--words", 700, 2000, "--records", 3)
    assert set(tasks) == {"passage_retrieval_en", "hotpotqa", "trec"} <= set(TASKS)
    for task, records in tasks.items():
        assert len(read_task(output / f"{task}.jsonl")) == len(records) == 6
        assert len({record["_id"] for record in records}) == 6
        for words, record in zip((700, 2000) * 3, records, strict=True):
            assert list(record) == FIELDS
            assert (record["dataset"], record["language"]) == (task, "en")
            assert record["length"] == pytest.approx(words, rel=0.25)
            whole = " ".join([record["input"], record["context"], *record["answers"]])
            assert record["length"] == len(whole.split())
    for record in tasks["passage_retrieval_en"]:
        paragraphs = record["context"].split("\n\n")
        assert len(paragraphs) == 30  # as the prompt says
        (found,) = [p.split(":")[0] for p in paragraphs if record["input"] in p]
        assert [found] == record["answers"]
    for record in tasks["hotpotqa"]:
        town = record["input"].split(" of ")[-1].removesuffix(" called?")
        person = record["context"].split(f"The harbour master of {town} is ")[1].split(".")[0]
        ship = record["context"].split(f"{person} sails a ship called ")[1].split(".")[0]
        assert [ship] == record["answers"]
        assert record["context"].count("harbour master") == record["context"].count("sails a") == 2
        assert record["context"].startswith("Passage 1:\n")
    for record in tasks["trec"]:
        assert record["all_classes"] == ["Ann", "Bob"]
        assert record["input"].endswith('"\nType:')
        sentence = record["input"].split('"')[1]
        assert sentence not in record["context"]
        assert record["answers"] == [{"ann": "Ann", "bob": "Bob"}[sentence.split()[-1][:3]]]
        shots = record["context"].split("\n")
        assert {shot.split(": ")[0] for shot in shots[::2]} == {"Question"}
        assert {*shots[1::2]} == {"Type: Ann", "Type: Bob"}


def test_the_same_text_and_seed_give_the_same_files(make_tasks, texts, tmp_path):
    first = made(make_tasks, texts, tmp_path / "a", "--records", 2)
    assert made(make_tasks, texts, tmp_path / "b", "--records", 2) == first
    lines = [json.dumps({"id": p.stem, "text": p.read_text()}) + "\n" for p in texts]
    (tmp_path / "all.jsonl").write_text("".join(lines))
    assert made(make_tasks, [tmp_path / "all.jsonl"], tmp_path / "c", "--records", 2) == first
    assert made(make_tasks, texts, tmp_path / "d", "--records", 2, "--seed", 1) != first


@pytest.mark.parametrize(
    "ids",
    [
        None,
        [7, 8, 9],
        [None, None, None],
        ["1", "2", "3"],
        ["1-Ann", "2-Ann", "3-Ann"],
        ["1-Ann", 2, None],
        [["Ann"], {"Bob": 1}, True],
    ],
)
def test_texts_that_do_not_tell_whose_they_are_make_the_other_tasks(
    make_tasks, texts, tmp_path, capsys, ids
):
    lines = [{"text": path.read_text()} for path in texts]
    lines = [line | ({"id": ids[n]} if ids else {}) for n, line in enumerate(lines)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tasks = made(make_tasks, [tmp_path / "all.jsonl"], tmp_path / "out", "--records", 2)
    assert set(tasks) == {"passage_retrieval_en", "hotpotqa"}
    assert capsys.readouterr().err.startswith("note: the texts are told to be of ")


def test_a_text_without_a_name_is_nobodys(make_tasks, texts, tmp_path):
    ids = [None, "1-Ann", "2-Bob"]
    lines = [{"text": path.read_text(), "id": name} for path, name in zip(texts, ids, strict=True)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tasks = made(make_tasks, [tmp_path / "all.jsonl"], tmp_path / "out", "--records", 2)
    assert {tuple(record["all_classes"]) for record in tasks["trec"]} == {("Ann", "Bob")}


def test_a_line_ends_at_a_line_feed_alone(make_tasks, texts, tmp_path):
    """Other characters at which Python's ``splitlines`` cuts stand in texts as they are."""
    breaks = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"
    lines = [{"text": p.read_text().replace(" ", f" {breaks} ", 3), "id": p.stem} for p in texts]
    dumped = [json.dumps(line, ensure_ascii=False) for line in lines]
    for name, end in (("lf", "\n"), ("crlf", "\r\n")):
        path = tmp_path / f"{name}.jsonl"
        path.write_bytes("".join(line + end for line in dumped).encode())
        assert len(made(make_tasks, [path], tmp_path / name, "--records", 1)) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--text", "nosuch.txt"], ("--text nosuch.txt",)),
        (["--text", "{broken}"], ("broken.jsonl", "line 1", "'text'")),
        (["--text", "{torn}"], ("torn.jsonl", "line 2", "not JSON")),
        (["--words", "90000"], ("--words", "more texts")),
    ],
)
def test_mistakes_are_one_line(make_tasks, texts, tmp_path, capsys, change, words):
    (tmp_path / "broken.jsonl").write_text('{"id": "a"}\n')
    (tmp_path / "torn.jsonl").write_text('{"text": "a"}\n{"te')
    names = {name: tmp_path / f"{name}.jsonl" for name in ("broken", "torn")}
    flags = [flag.format(**names) for flag in change]
    given = [made, make_tasks, texts, tmp_path / "out", *flags]
    refused(capsys, words, *given, untouched=tmp_path)
