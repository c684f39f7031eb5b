# SPDX-License-Identifier: Apache-2.0
"""The page's first screen: what it says of each checkpoint, and what it says is missing."""

import json
import re
import shlex

import numpy as np
import pytest

from e2_tools.commands import evaluate_needle, evaluate_perplexity, evaluate_ruler
from e2_tools.commands.report import main
from e2_tools.evaluation.conditions import TESTS
from e2_tools.evaluation.perplexity.bootstrap import interval_over_documents
from e2_tools.reporting.collect import collect
from e2_tools.reporting.page import Cell
from e2_tools.reporting.sections import PARTS, sections_of
from tests.helpers.commands import run_command
from tests.tools.reporting.results import (
    TRAINED,
    attention,
    both,
    first_screen,
    grid,
    made_by,
    perplexity,
    report,
    ruler,
    write,
)


def test_a_reviewer_finds_the_four_answers_before_and_after(tmp_path):
    both(tmp_path)
    rows, section = first_screen(tmp_path)
    assert list(rows) == [
        "Effective window (RULER)",
        *("Perplexity, window 256", "Perplexity, window 512"),
        *("Needle in a haystack, window 512", "Short tasks"),
    ]
    told = {title: [cell.text for cell in cells.values()] for title, cells in rows.items()}
    assert told["Effective window (RULER)"] == ["256", "512"]
    assert told["Perplexity, window 512"] == ["16.00", "8.00"]
    assert told["Short tasks"] == ["50.00 %", "40.00 %"]
    assert rows["Perplexity, window 512"]["e2"].small[0] == "-50.0 %"
    assert "-10.00 ± 5.00" in rows["Short tasks"]["e2"].small
    assert not section.commands
    head = section.tables[0].head[2]
    assert head.small == ("e2, R 128, g to 16, 250 iterations",)


def test_every_number_has_what_it_is_over_its_scale_and_its_command(tmp_path):
    both(tmp_path)
    page = report(tmp_path)
    sections = {section.title: section for section in sections_of(collect(tmp_path))}
    (listed,) = (section.sources for section in sections.values() if section.sources)
    commands = {source.number: source.commands for source in listed}
    assert all(commands.values())
    assert len(commands[next(s.number for s in listed if s.file == "short.json")]) == 2
    numbers = re.compile(r"\d")
    seen = 0
    for title, section in sections.items():
        for table in section.tables:
            if table.caption.startswith("How "):
                continue
            for row in table.rows:
                for cell in row[1:]:
                    if not isinstance(cell, Cell) or not numbers.search(cell.text):
                        continue
                    seen += 1
                    sources = [*cell.sources, *getattr(row[0], "sources", ())]
                    sources += [
                        s for head in table.head if isinstance(head, Cell) for s in head.sources
                    ]
                    assert sources, (title, cell)
                    small = " ".join(
                        [*cell.small, *(getattr(each, "text", "") for each in table.head)]
                    )
                    assert re.search(r"\d (asked|tokens)|% of \d|window", small), (title, cell)
    assert seen > 20
    for number in re.findall(r'href="#source-(\d+)"', page):
        assert f'id="source-{number}"' in page


def test_a_standard_error_of_none_right_is_not_zero(tmp_path):
    none = {"schema": "e2-llm/needle/1", "label": "E2", "trials": 4, "results": []}
    cell = {"depth": 0, "scale": 1.0, "trials": 4, "correct": 0, "accuracy": 0.0}
    write(tmp_path, n=none | {"results": [cell | {"window": window} for window in (256, 512)]})
    rows, _ = first_screen(tmp_path)
    shown = rows["Needle in a haystack, window 512"]["E2"]
    assert (shown.text, shown.small) == ("0.0 %", ("0\xa0…\xa049", "g = 1, 4 asked"))


def test_what_is_missing_is_said_with_its_command(tmp_path):
    command = "python tools/evaluate_perplexity.py --model=m/e2 --data 'held out.jsonl' --stride 8 "
    command += "--windows 256 512 --resume --label e2 --output out.json"
    write(
        tmp_path,
        ppl=perplexity("e2", {256: 9.0, 512: 8.0}, model="m/e2") | made_by(command, TRAINED),
        needle=grid("e2-llm/needle/1", "base") | {"model": "m/base"},
    )
    rows, section = first_screen(tmp_path)
    for title in ("Effective window (RULER)", "Short tasks"):
        assert {cell.small for cell in rows[title].values()} == {("not measured",)}
    assert rows["Perplexity, window 512"]["base"].small == ("not measured",)
    told = dict(section.commands)
    # As the other was measured.
    words = shlex.split(told["Perplexity of base:"])
    assert words[:6] == [
        "python",
        *"tools/evaluate_perplexity.py --data".split(),
        "held out.jsonl",
    ] + [
        "--stride",
        "8",
    ]
    assert "--resume" not in words
    assert words[-6:] == ["--model", "m/base", "--label", "base", "--output"] + [
        str(tmp_path / "perplexity-base.json")
    ]
    assert "--windows 256 512" in told["RULER of e2:"]
    assert told["Short tasks of e2:"].startswith(
        "bash examples/evaluation/short.sh --base m/base --model m/e2"
    )


@pytest.mark.parametrize("kind", ["ruler", "perplexity", "needle", "short", "run"])
def test_the_commands_for_what_is_missing_are_understood(tmp_path, kind, capsys):
    write(tmp_path, attention=attention("only") | {"model": "m/only"})
    _, section = first_screen(tmp_path)
    commands = [shlex.split(command) for _, command in section.commands]
    (words,) = [each for each in commands if kind in each[1].replace("evaluation/", "")]
    parsers = {
        "ruler": evaluate_ruler,
        "perplexity": evaluate_perplexity,
        "needle": evaluate_needle,
    }
    if kind in parsers:
        parsers[kind].build_parser().parse_args(words[2:])
    else:
        run_command(*words[1:], "--dry-run")


def test_one_checkpoint_misses_the_one_before(tmp_path):
    write(tmp_path, ppl=perplexity("e2", {256: 9.0}, model="m/e2"))
    _, section = first_screen(tmp_path)
    what, command = section.commands[0]
    assert "before" in what
    assert "--base BASE --model m/e2" in command


def test_a_window_that_one_lacks_is_gone_on_with(tmp_path):
    command = "python tools/evaluate_perplexity.py --model m/a --windows 256 512 --output a.json"
    write(
        tmp_path,
        a=perplexity("a", {256: 9.0, 512: 9.0}, model="m/a") | made_by(command),
        b=perplexity("b", {512: 9.0}, model="m/b"),
        c=perplexity("c", {256: 9.0, 512: 9.0}, model="m/c"),
    )
    _, section = first_screen(tmp_path)
    (command,) = (command for what, command in section.commands if what.startswith("Perplexity"))
    assert command.endswith(f"--model m/b --label b --output {tmp_path / 'b.json'} --resume")


def test_other_files_are_no_checkpoints(tmp_path):
    both(tmp_path)
    speed = {"schema": "e2-llm/gpu-training/1", "label": "H100", "variants": []}
    write(tmp_path, speed=speed, keys={"schema": "e2-llm/key-tokens/1", "documents": []})
    rows, _ = first_screen(tmp_path)
    assert list(rows["Short tasks"]) == ["base", "e2"]
    assert "speed.json" in [source.file for source in sections_of(collect(tmp_path))[-1].sources]


def test_the_order_of_columns_can_be_said(tmp_path, capsys):
    both(tmp_path)
    rows, _ = first_screen(tmp_path, order=["e2", "base"])
    assert list(rows["Short tasks"]) == ["e2", "base"]
    main([str(tmp_path), "--order", "nobody", "e2"])  # whose evaluation may have failed
    assert "--order nobody: no result has this name; there are base, e2" in capsys.readouterr().err
    assert re.findall(r"<th.*?</span>(\w+)", (tmp_path / "report.html").read_text())[0] == "e2"


def test_who_was_not_trained_by_a_method_stands_before(tmp_path):
    untrained = {"e2_llm": {"method": "none", "iteration": 700}}
    write(
        tmp_path,
        a=perplexity("after", {128: 9.0}) | made_by("x", TRAINED),
        b=perplexity("before", {128: 9.0}) | made_by("x", untrained),
    )
    rows, _ = first_screen(tmp_path)
    assert list(rows["Perplexity, window 128"]) == ["before", "after"]


def test_a_change_is_over_the_same_documents(tmp_path):
    """Its interval is that of the mean difference; other documents have none."""
    random = np.random.default_rng(0)
    sums = random.uniform(2000, 4000, (2, 6))
    counts = [900, 1000, 1100, 800, 1200, 1000]

    def content(name, own):
        made = perplexity(name, {128: float(np.exp(sum(own) / sum(counts)))})
        made["results"][0]["documents"] = {"nll_sum": list(own), "count": counts}
        return made

    write(tmp_path, a=content("a", sums[0]), b=content("b", sums[1]))
    rows, _ = first_screen(tmp_path)
    told = rows["Perplexity, window 128"]["b"].small[0]
    low, high = np.exp(interval_over_documents(sums[1] - sums[0], counts)) - 1
    value = np.exp((sums[1].sum() - sums[0].sum()) / sum(counts)) - 1
    assert told == f"{100 * value:+.1f} % ({100 * low:+.1f}\xa0…\xa0{100 * high:+.1f})"


@pytest.mark.parametrize("share", [0.875, 0.8561, 0.856])
def test_the_effective_window_says_when_it_hangs_on_a_hair(tmp_path, share):
    write(tmp_path, r=ruler("E2", {256: {"vt": 1}, 512: {"vt": share}}))
    rows, _ = first_screen(tmp_path)
    cell = rows["Effective window (RULER)"]["E2"]
    assert cell.text == ("512" if share > 0.856 else "256")
    assert any("uncertain" in line for line in cell.small)


@pytest.mark.parametrize("test", ["babilong", "mrcr"])
def test_a_test_by_task_has_a_row_and_a_section(tmp_path, test):
    shares = {512: {"one": 0.5, "two": 1.0}, 1024: {"one": 0.0, "two": 0.5}}
    for label in ("before", "after"):
        content = ruler(label, shares, schema=f"e2-llm/{test}/1")
        (tmp_path / f"{label}.json").write_text(json.dumps(content))
    rows, _ = first_screen(tmp_path)
    ((title, cells),) = [(title, cells) for title, cells in rows.items() if "1,024" in title]
    assert title.startswith(("BABILong", "MRCR"))
    assert {cell.text for cell in cells.values()} == {"25.0 %"}
    (own,) = [each for each in sections_of(collect(tmp_path)) if each.title == title.split(",")[0]]
    assert len(own.tables) == 1 + 2 + 1  # means, a window's tasks, how they were asked
    assert [row[0] for row in own.tables[1].rows] == ["one", "two"]


def test_every_test_has_a_section():
    assert {f"e2-llm/{name}" for name in TESTS} <= PARTS.keys()
