# SPDX-License-Identifier: Apache-2.0
"""The page's first screen, and what would make its numbers wrong without a word."""

import json
import re
import shlex

import numpy as np
import pytest

from e2_tools.commands import evaluate_needle, evaluate_perplexity, evaluate_ruler
from e2_tools.commands.report import main
from e2_tools.evaluation.perplexity.bootstrap import interval_over_documents
from e2_tools.reporting import summary
from e2_tools.reporting.checkpoints import page_of
from e2_tools.reporting.collect import collect
from e2_tools.reporting.page import Cell
from e2_tools.reporting.sections import sections_of
from tests.helpers.commands import run_command
from tests.tools.reporting.results import attention, grid, perplexity, report, ruler

NAMES = ("base", "e2")
TRAINED = {"e2_llm": {"method": "e2", "train_window": 128, "max_scale": 16, "iteration": 250}}


def made_by(command, config=None):
    return {"provenance": {"command": command, "model_config": config}}


def short(before="base", after="e2", **changes):
    row = {"task": "piqa", "metric": "acc", "questions": 40, "shots": 0, "paired": True}
    scores = {"before": 0.5, "before_stderr": 0.08, "after": 0.4, "after_stderr": 0.07}
    scores |= {"difference": -0.1, "difference_stderr": 0.05}
    content = {"schema": "e2-llm/short/1", "label": after, "limit": None, "lm_eval": "0.4.13"}
    for name, label in (("before", before), ("after", after)):
        content[name] = {"label": label, "model": f"m/{label}", "max_length": 256, "scale": 2.0}
        content[name] |= {"command": f"python -m lm_eval run --model_args pretrained=m/{label}"}
    return content | {"results": [row | scores], "mean": {"tasks": 1, **scores}} | changes


def write(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def both(folder):
    """Everything that the first screen asks for, before and after."""
    for name, config in zip(NAMES, (None, TRAINED), strict=True):
        command = f"python tools/evaluate_X.py --model m/{name} --windows 256 512 --output x.json"
        own = {"model": f"m/{name}"} | made_by(command, config)
        shares = {256: {"vt": 1.0}, 512: {"vt": 0.5 if name == "base" else 0.875}}
        write(
            folder,
            **{
                f"ruler_{name}": ruler(name, shares) | own,
                f"ppl_{name}": perplexity(name, {256: 9.0, 512: 8.0 if name == "e2" else 16.0})
                | own,
                f"needle_{name}": grid("e2-llm/needle/1", name) | own,
            },
        )
    write(folder, short=short())


def first_screen(folder, **options):
    """The summary's table: title -> name -> cell; and the section."""
    section = summary.section(page_of(collect(folder), **options))
    (table,) = section.tables
    names = [cell.text for cell in table.head[1:]]
    rows = {row[0].text: dict(zip(names, row[1:], strict=True)) for row in table.rows}
    return rows, section


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
    assert "speed.json" in report(tmp_path)


# --- what must not stand in one column, or under one name ---


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
