# SPDX-License-Identifier: Apache-2.0
"""Whose records were scored, from the data to the page: LongBench's, others, home-made ones."""

import dataclasses
import hashlib
import json
import re

import pytest

from e2_tools.commands.evaluate_longbench import main
from e2_tools.commands.plot_results import main as plot
from e2_tools.commands.report import main as report
from e2_tools.evaluation.longbench import score
from e2_tools.evaluation.longbench.origin import KINDS, MARK, Origin, origin_of, worst
from e2_tools.evaluation.longbench.tasks import TASKS, Records
from tests.tools.evaluation.longbench_records import predict, record, write_tasks

RECORDS = [record(n, answers=[f"Ann{n // 2}"], length=n // 4) for n in range(20)]


@pytest.fixture
def qasper(monkeypatch):
    """The task qasper, as if LongBench's records were :data:`RECORDS`."""
    keys = [json.dumps([r["answers"], r["all_classes"], r["length"]]) for r in RECORDS]
    digest = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()
    task = dataclasses.replace(TASKS["qasper"], records=Records(20, digest))
    monkeypatch.setitem(TASKS, "qasper", task)
    return task


def predictions(records):
    rows = [{key: r[key] for key in ("answers", "all_classes", "length")} for r in records]
    return [{"pred": r["input"]} | row for r, row in zip(records, rows, strict=True)]


def test_every_set_has_a_count_and_a_hash_of_its_own():
    sets = [task.records for task in TASKS.values()]
    sets += [task.records_e for task in TASKS.values() if task.longbench_e]
    assert [task.name for task in TASKS.values() if task.records_e] == [
        task.name for task in TASKS.values() if task.longbench_e
    ]
    # LongBench's task.md: 200 each, but 150 and 500, of which multifieldqa_en is in both
    assert sorted(task.records.count for task in TASKS.values()) == [150, *[200] * 18, 500, 500]
    assert sum(task.records_e.count for task in TASKS.values() if task.longbench_e) == 3668
    assert len({each.sha256 for each in sets}) == len(sets) - 1
    assert TASKS["multifieldqa_en"].records == TASKS["multifieldqa_en"].records_e


@pytest.mark.parametrize(
    ("records", "kind", "repeated"),
    [
        (RECORDS, "longbench", 0),
        (RECORDS[::-1], "longbench", 0),  # several processes append in any order
        (RECORDS + RECORDS, "other", 20),
        (RECORDS + RECORDS[3:4], "other", 1),
        (RECORDS[:-1] + RECORDS[:1], "other", 1),  # as many, but not each once
        (RECORDS[:5], "other", 0),
        ([*RECORDS[:-1], record(19, length=4, answers=["Bob"])], "other", 0),
        ([*RECORDS[:-1], record(19, length=3, answers=["Ann9"])], "other", 0),
        ([*RECORDS, record(99)], "other", 0),
        ([r | {MARK: "x.py"} for r in RECORDS], "made", 0),
        ([*RECORDS[:-1], RECORDS[-1] | {MARK: "x.py"}], "made", 0),
    ],
)
def test_records_are_told_apart(qasper, records, kind, repeated):
    marks = [{MARK: r[MARK]} if MARK in r else {} for r in records]
    found = [row | mark for row, mark in zip(predictions(records), marks, strict=True)]
    origin = origin_of(qasper, found)
    assert (origin.kind, origin.records, origin.repeated) == (kind, len(records), repeated)
    assert origin_of(qasper, records).kind == kind  # of the data


def test_some_of_what_predict_read(qasper):
    data = origin_of(qasper, RECORDS)._asdict()
    assert origin_of(qasper, predictions(RECORDS[:5]), data=data) == Origin("part", 5, 20)
    own = origin_of(qasper, RECORDS[:7])._asdict() | {"of": 7}
    assert origin_of(qasper, predictions(RECORDS[:5]), data=own) == Origin("other", 5, 7)
    assert origin_of(qasper, predictions(RECORDS[:7] * 2), data=own).repeated == 7
    # a damaged settings.json is as none
    assert origin_of(qasper, predictions(RECORDS), data={"kind": 3}).kind == "longbench"


def test_a_folder_is_called_by_the_worst_of_its_tasks():
    assert worst(["longbench", "longbench"]) == "longbench"
    assert worst(["longbench", "part", "made", "other"]) == "made"


def test_score_says_how_many_of_how_many_and_warns(qasper, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(score.TASKS, "qasper", qasper)
    path = tmp_path / "qasper.jsonl"
    for records, told, notes in (
        (RECORDS, "20 of 20", []),
        (RECORDS * 3, "60 of 20", ["40 of them repeated; expected 20", "not LongBench's sets"]),
        (RECORDS[:3], "3 of 20", ["not LongBench's sets"]),
    ):
        path.write_text("".join(json.dumps(each) + "\n" for each in predictions(records)))
        main(["score", "--predictions", str(tmp_path)])
        out, err = capsys.readouterr()
        assert told in out
        assert len(err.splitlines()) == len(notes)
        assert all(note in line for note, line in zip(notes, err.splitlines(), strict=True))
        page = page_of(tmp_path)
        assert (">LongBench<" in page) == (not notes)
        assert told in page
    # LongBench-E's records are others
    main(["score", "--predictions", str(tmp_path), "--e"])
    assert "3 of 224" in capsys.readouterr().out


def page_of(folder):
    report([str(folder)])
    return (folder / "report.html").read_text().replace("&#39;", "'")


def test_the_mark_of_home_made_tasks_goes_to_the_pages_title(model, tmp_path, capsys):
    data = write_tasks(tmp_path / "data")
    for path in data.iterdir():
        rows = [json.loads(line) | {MARK: "x.py"} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "out"
    predict(model, data, output, "--limit", 2)
    settings = json.loads((output / "settings.json").read_text())
    assert settings["records"]["hotpotqa"] == Origin("made", 4, 4, made_by="x.py")._asdict()
    main(["score", "--predictions", str(output)])
    assert "Home-made tasks" in capsys.readouterr().err
    summary = json.loads((output / "summary.json").read_text())
    assert summary["kind"] == "made"
    assert summary["records"]["hotpotqa"] == Origin("made", 2, 4, made_by="x.py")._asdict()
    assert re.findall("<h2>(.*)</h2>", page_of(output))[1] == KINDS["made"].title
    # beside others: a section each, and a note where they stand in one picture
    other = output / "other" / "summary.json"
    other.parent.mkdir()
    other.write_text(json.dumps(summary | {"kind": "longbench"}))
    titles = re.findall("<h2>(.*)</h2>", page_of(output))
    assert titles[1:3] == ["LongBench", KINDS["made"].title]
    flags = ["--kind", "ablation", "--output", str(tmp_path / "p.png")]
    plot([str(other), str(output / "summary.json"), *flags])
    assert "differ in records" in capsys.readouterr().err
