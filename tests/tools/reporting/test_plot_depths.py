# SPDX-License-Identifier: Apache-2.0
"""Heat maps of several retrieval tests: those of one label are their mean."""

import json

import pytest
from matplotlib import image

from e2_tools.commands.plot_results import main
from e2_tools.evaluation.retrieval.results import draw_by_depth
from tests.helpers.commands import refused


def run(*arguments):
    main([str(argument) for argument in arguments])


def results(label, correct):
    cells = [
        {"window": window, "depth": depth, "scale": 1.0, "trials": 4, "correct": right}
        for (window, depth), right in correct.items()
    ]
    cells = [cell | {"accuracy": cell["correct"] / cell["trials"]} for cell in cells]
    return {"schema": "e2-llm/recall/1", "label": label, "trials": 4, "results": cells}


RUNS = [
    results("one", {(64, 0): 4, (64, 100): 2, (128, 0): 0, (128, 100): 1}),
    results("one", {(64, 0): 2, (64, 100): 2, (128, 0): 1, (128, 100): 1}),
    results("other", {(64, 0): 4, (64, 100): 4, (128, 0): 4, (128, 100): 4}),
]


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{number}.json" for number in range(len(RUNS))]
    for path, run_of in zip(paths, RUNS, strict=True):
        path.write_text(json.dumps(run_of))
    return paths


def test_a_panel_a_label_with_the_mean_of_its_runs():
    figure = draw_by_depth(RUNS, "T")
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title(loc="left") for axes in panels] == [
        "Span recall: one\n8 trials a cell, 2 runs",
        "Span recall: other\n4 trials a cell",
    ]
    shown = [[text.get_text() for text in axes.texts] for axes in panels]
    assert shown == [["75", "12", "50", "25"], ["100"] * 4]
    assert panels[0].get_ylabel() == "depth of the span"


def test_the_command_draws_them_and_prints_the_table(files, tmp_path, capsys):
    run(*files, "--kind", "depth", "--table", "--output", tmp_path / "p.png")
    assert image.imread(tmp_path / "p.png").ndim == 3
    assert "| other | 100.0 ± 0.0 | 100.0 ± 0.0 |" in capsys.readouterr().out


def test_a_collection_is_drawn_by_window_again(files, tmp_path, capsys):
    collected, first, again = (tmp_path / name for name in ("all.json", "p.png", "q.png"))
    run(*files, "--seeds", "--table", "--output", first, "--collect", collected)
    shown = capsys.readouterr()
    run(collected, "--seeds", "--table", "--output", again)
    assert capsys.readouterr() == shown
    assert again.read_bytes() == first.read_bytes()


def test_tasks_are_no_depths(files, tmp_path, capsys):
    cell = {"window": 64, "task": "vt", "scale": 1, "trials": 1, "correct": 1, "accuracy": 1}
    content = {"schema": "e2-llm/ruler/1", "label": "R", "results": [cell | {"scores": [1]}]}
    (tmp_path / "ruler.json").write_text(json.dumps(content))
    output = ["--kind", "depth", "--output", tmp_path / "p.png"]
    refused(capsys, "RULER", run, *files, tmp_path / "ruler.json", *output, untouched=tmp_path)
    content["results"].append(cell | {"window": 128, "task": "fwe", "scores": [1]})
    (tmp_path / "ruler.json").write_text(json.dumps(content))
    words = ("ruler.json", "--resume")  # no window has both tasks
    refused(capsys, words, run, tmp_path / "ruler.json", *output, untouched=tmp_path)


def test_a_collection_has_no_depths(files, tmp_path, capsys):
    collected = tmp_path / "all.json"
    run(*files, "--seeds", "--output", tmp_path / "p.png", "--collect", collected)
    output = ["--kind", "depth", "--output", tmp_path / "p.png"]
    refused(capsys, "--kind depth: a collection has no depths", run, collected, *output)
