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
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
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
    ("change", "words"),
    [
        (["--text", "nosuch.txt"], ("--text nosuch.txt",)),
        (["--text", "{one}"], ("--text", "one label")),
        (["--text", "{number}"], ("123", "rename")),
        (["--text", "{broken}"], ("broken.jsonl", "id")),
        (["--words", "90000"], ("--words", "more texts")),
    ],
)
def test_mistakes_are_one_line(make_tasks, texts, tmp_path, capsys, change, words):
    (tmp_path / "123.txt").write_text("a")
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n')
    names = {"one": texts[0], "number": tmp_path / "123.txt", "broken": tmp_path / "broken.jsonl"}
    flags = [flag.format(**names) for flag in change]
    given = [made, make_tasks, texts, tmp_path / "out", *flags]
    refused(capsys, words, *given, untouched=tmp_path)
