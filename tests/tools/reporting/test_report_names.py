# SPDX-License-Identifier: Apache-2.0
"""What must not stand in one column of the page, or under one name, without a word."""

import json
import re

import pytest

from e2_tools.reporting import summary
from e2_tools.reporting.checkpoints import page_of
from e2_tools.reporting.collect import collect
from e2_tools.reporting.sections import sections_of
from tests.tools.reporting.results import (
    attention,
    both,
    first_screen,
    grid,
    perplexity,
    report,
    ruler,
    short,
    write,
)


@pytest.mark.parametrize(
    "change",
    [
        {"stride": 7},
        {"protocol": "yarn"},
        {"bos": False},
        {"data": {"path": "held_out.jsonl", "sha256": "1" * 64}},
        {"documents": {"line": [1]}},
    ],
)
def test_perplexities_of_other_ways_have_their_own_rows(tmp_path, change):
    write(tmp_path, a=perplexity("a", {128: 1.5}), b=perplexity("b", {128: 2.5}) | change)
    tables = [
        table
        for section in sections_of(collect(tmp_path))
        for table in section.tables
        if section.title == "Perplexity by window" and not table.caption.startswith("How ")
    ]
    assert [[row[0].text for row in table.rows] for table in tables] == [["a"], ["b"]]
    (section,) = (s for s in sections_of(collect(tmp_path)) if s.title == "Perplexity by window")
    assert next(iter(change)) in section.notes[0]
    (table,) = summary.section(page_of(collect(tmp_path))).tables
    values = [[cell.text for cell in row[1:]] for row in table.rows if "Perplexity" in row[0].text]
    assert values == [["1.50", ""], ["", "2.50"]]


@pytest.mark.parametrize(
    "change",
    [{"seed": 7}, {"haystack": {"path": "x", "sha256": "1"}}, {"chat": True}, {"trials": 8}]
    + [{"values": "uuids"}, {"depths": "fewer"}],
)
def test_questions_of_other_kinds_have_their_own_rows(tmp_path, change):
    a, b = (grid("e2-llm/needle/1", name) for name in "ab")
    if "depths" in change:
        b["results"] = [cell for cell in b["results"] if cell["depth"] == 0]
    else:
        b |= change
    write(tmp_path, a=a, b=b)
    rows = [
        [bool(cell.text) for cell in row[1:]]
        for row in summary.section(page_of(collect(tmp_path))).tables[0].rows
        if "Needle" in row[0].text
    ]
    assert rows == [[True, False], [False, True]]


def test_means_over_other_tasks_have_their_own_rows(tmp_path):
    write(
        tmp_path,
        a=ruler("a", {256: {"vt": 1, "fwe": 1}}),
        b=ruler("b", {256: {"vt": 1}}),
    )
    (table,) = summary.section(page_of(collect(tmp_path))).tables
    told = [row[0].small[0] for row in table.rows if "RULER" in row[0].text]
    assert [text.split(":")[0] for text in told] == [
        "2 of RULER's 13 tasks",
        "1 of RULER's 13 tasks",
    ]


def test_a_window_that_was_not_asked_everything_is_left_out(tmp_path):
    content = grid("e2-llm/needle/1", "E2")
    content["results"] = content["results"][:-1]  # of window 512 the last depth
    write(tmp_path, needle=content)
    rows, _ = first_screen(tmp_path)
    assert "Needle in a haystack, window 256" in rows
    (section,) = (s for s in sections_of(collect(tmp_path)) if s.title == "Needle in a haystack")
    assert "window 512" in section.notes[0]
    content["results"] = [content["results"][0], content["results"][2]]
    write(tmp_path, needle=content)  # an unfinished file has no window at all
    content["results"][1]["depth"] = 50
    write(tmp_path, needle=content)
    report(tmp_path)


def test_models_of_one_label_keep_apart(tmp_path):
    write(
        tmp_path,
        a=perplexity("hf", {128: 9.0}, model="/runs/base/hf"),
        b=perplexity("hf", {128: 8.0}, model="/runs/e2/hf"),
        needle=grid("e2-llm/needle/1", "hf") | {"model": "/runs/e2/hf/"},
    )
    rows, _ = first_screen(tmp_path)
    names = ["hf (/runs/base/hf)", "hf (/runs/e2/hf)"]
    assert list(rows["Perplexity, window 128"]) == names
    assert rows["Needle in a haystack, window 512"][names[1]].text
    assert not rows["Needle in a haystack, window 512"][names[0]].text


def test_short_tasks_are_of_the_checkpoint_of_their_model(tmp_path):
    both(tmp_path)
    content = short(before="other name", after="e2")
    content["before"]["model"] = "/home/me/m/base"
    content["after"]["model"] = "m/another"
    write(tmp_path, short=content)
    rows, _ = first_screen(tmp_path)
    scores = {name: cell.text for name, cell in rows["Short tasks"].items()}
    assert scores == {"base": "50.00 %", "e2": "", "e2 (m/another)": "40.00 %"}
    content["after"]["model"] = "out/served-4096"
    write(tmp_path, short=content)
    rows, _ = first_screen(tmp_path)
    assert rows["Short tasks"]["e2"].text == "40.00 %"


def test_one_model_from_two_folders_is_one(tmp_path):
    write(
        tmp_path,
        a=perplexity("hf", {128: 9.0}, model="/home/me/runs/hf"),
        needle=grid("e2-llm/needle/1", "hf") | {"model": "runs/hf"},
    )
    rows, _ = first_screen(tmp_path)
    assert list(rows["Perplexity, window 128"]) == ["hf"]


def test_one_model_at_several_scales_is_several_columns(tmp_path):
    for scale in ("auto", 4.0, "none"):
        content = perplexity("hf", {128: 9.0}, model="hf", scale_mode=scale)
        write(tmp_path, **{f"g{scale}": content})
    rows, section = first_screen(tmp_path)
    assert sorted(rows["Perplexity, window 128"]) == [
        "hf, g = 4",
        "hf, g by window",
        "hf, own RoPE",
    ]
    assert not section.notes


def test_a_model_compared_with_itself_is_said_to_be(tmp_path):
    write(
        tmp_path,
        a=perplexity("base", {128: 9.0}, model="runs/e2", scale_mode="auto"),
        b=perplexity("e2", {128: 9.0}, model="runs/./e2/", scale_mode="auto"),
        short=short(before="base", after="e2"),
    )
    _, section = first_screen(tmp_path)
    assert section.notes == [
        "base and e2 are one model, runs/e2, served alike: this compares it with itself."
    ]
    content = short()
    content["after"] |= {"model": "m/base"}
    write(tmp_path, short=content)
    _, section = first_screen(tmp_path)
    assert section.notes[1].startswith("short.json: before and after are one model, m/base")


def test_precisions_that_differ_are_said(tmp_path):
    for name, dtype in (("a", "fp32"), ("b", "bf16")):
        write(tmp_path, **{name: perplexity(name, {128: 9.0}, model=name, dtype=dtype)})
    _, section = first_screen(tmp_path)
    assert section.notes == ["Perplexity was measured in bf16 and in fp32."]


def test_rulers_text_is_said(tmp_path):
    """With other essays, or other ends of sentences, scores are not RULER's."""
    haystack = {"file": "mine.txt", "sha256": "0", "sentences": "marks"}
    write(tmp_path, r=ruler("E2", {256: {"vt": 1}}) | {"haystack": haystack})
    (table,) = summary.section(page_of(collect(tmp_path))).tables
    assert "haystack mine.txt, sentences by marks" in table.rows[0][0].small[1]


def test_two_results_of_one_checkpoint_are_not_chosen_from(tmp_path):
    for number in range(2):
        write(tmp_path, **{f"p{number}": perplexity("hf", {128: 9.0 + number}, model="hf")})
    rows, _ = first_screen(tmp_path)
    assert rows["Perplexity, window 128"]["hf"].text == "2 results"
    page = report(tmp_path)
    assert "hf (p0.json)" in page
    assert "hf (p1.json)" in page


def test_windows_in_two_files_are_one_line_on_the_first_screen(tmp_path):
    write(
        tmp_path,
        a=perplexity("hf", {128: 9.0}, model="hf"),
        b=perplexity("hf", {512: 8.0}, model="hf"),
    )
    rows, _ = first_screen(tmp_path)
    assert rows["Perplexity, window 128"]["hf"].text == "9.00"
    assert rows["Perplexity, window 512"]["hf"].text == "8.00"


def test_models_are_no_iterations_of_one_run(tmp_path):
    for name, iteration in (("base", 700), ("e2", 250)):
        content = {"schema": "e2-llm/longbench/1", "label": name, "iteration": iteration}
        content |= {"averages": {}, "scores": {"trec": 10.0}}
        write(tmp_path, **{name: content})
    page = report(tmp_path)
    assert "Means by training iteration." not in page


@pytest.mark.parametrize("label", ["<b>$x$</b> & {{ 7 * 7 }}", "_hidden\n$\\frac{"])
def test_labels_are_no_markup_anywhere(tmp_path, label):
    both(tmp_path)
    for path in tmp_path.glob("*.json"):
        content = json.loads(path.read_text())
        for part in (content, content.get("before", {}), content.get("after", {})):
            if part.get("label") == "e2":
                part["label"] = label
        path.write_text(json.dumps(content))
    write(tmp_path, attention=attention(label))
    page = report(tmp_path)
    assert "<b>" not in page
    assert "49" not in re.sub(r"base64,\S+", "", page).replace("49\xa0…", "").split("Summary")[0]
    (table,) = summary.section(page_of(collect(tmp_path))).tables
    assert label in [cell.text for cell in table.head[1:]]
