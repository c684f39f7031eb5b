# SPDX-License-Identifier: Apache-2.0
"""LongBench means by iteration and by variant, as pictures and tables."""

import json
from statistics import fmean

import pytest
from matplotlib import image

from e2_tools.evaluation.longbench.origin import Origin
from e2_tools.evaluation.longbench.plots import draw_ablation, draw_iterations
from e2_tools.evaluation.longbench.score import SCHEMA, write_scores
from e2_tools.evaluation.longbench.summaries import common_means, read_summary, with_iterations
from e2_tools.evaluation.longbench.tasks import AVERAGES
from tests.helpers.commands import refused
from tests.tools.reporting.test_plot_results import E2, run

# The paper's Table 4, ZH and All of the third row recomputed
VARIANTS = {"E2-LLM": (44.55, 31.93, 41.74), "without t": (42.28, 29.49, 39.44)}


def write(folder, label, means=(None, None, None), scores=None, iteration=None, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    config = {"e2_llm": {"iteration": iteration}} if iteration is not None else None
    content = {
        "schema": SCHEMA,
        "label": label,
        "averages": dict(zip(("EN", "ZH", "All"), means, strict=True)),
        "scores": scores or {"qasper": 20.0},
        "provenance": {"model_config": config},
    }
    (folder / "summary.json").write_text(json.dumps(content | changes))
    return folder / "summary.json"


def lines_of(figure):
    (axes,) = figure.axes
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines
    }


def test_iterations_are_drawn_in_order_whatever_the_order_of_the_files(tmp_path, capsys):
    points = {3000: (30.0, 20.0, 28.0), 0: (20.0, 10.0, 18.0), 1000: (25.0, 18.0, 23.5)}
    files = [write(tmp_path / f"{n}", "e2", means, iteration=n) for n, means in points.items()]
    run(*files, "--output", tmp_path / "p.png", "--table", "--title", "T")
    assert image.imread(tmp_path / "p.png").shape[:2] == (750, 1200)
    assert capsys.readouterr().out.splitlines() == [
        "| iteration | EN | ZH | All |",
        "| --- | ---: | ---: | ---: |",
        "| 0 | 20.00 | 10.00 | 18.00 |",
        "| 1000 | 25.00 | 18.00 | 23.50 |",
        "| 3000 | 30.00 | 20.00 | 28.00 |",
    ]
    figure = draw_iterations(with_iterations([read_summary(file) for file in files], None))
    assert lines_of(figure) == {
        "EN (14 tasks)": ([0, 1000, 3000], [20.0, 25.0, 30.0]),
        "ZH (4 tasks)": ([0, 1000, 3000], [10.0, 18.0, 20.0]),
        "All (18 tasks)": ([0, 1000, 3000], [18.0, 23.5, 28.0]),
    }


def test_iterations_can_be_named(tmp_path, capsys):
    files = [write(tmp_path / name, name, (1.0, 2.0, 3.0)) for name in "ab"]
    run(*files, "--output", tmp_path / "p.png", "--iterations", 500, 250, "--table")
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[1] for row in rows] == ["250", "500"]


def test_ablations_are_bars_from_zero(tmp_path, capsys):
    files = [write(tmp_path / name, name, means) for name, means in VARIANTS.items()]
    flags = ["--kind", "ablation", "--table", "--labels", "E2-LLM", "without | t"]
    run(*files, "--output", tmp_path / "p.png", *flags)
    assert capsys.readouterr().out.splitlines()[0::3] == [
        "| ablation | EN | ZH | All |",
        "| without \\| t | 42.28 | 29.49 | 39.44 |",
    ]
    (axes,) = draw_ablation([read_summary(file) for file in files]).axes
    heights = [[bar.get_height() for bar in group] for group in axes.containers]
    assert heights == [[44.55, 42.28], [31.93, 29.49], [41.74, 39.44]]
    assert axes.get_ylim()[0] == 0
    assert {text.get_text() for text in axes.texts} >= {"44.55", "29.49"}
    assert [text.get_text() for text in axes.get_xticklabels()] == list(VARIANTS)


def test_nothing_but_zeros_is_drawn_from_zero_up(tmp_path):
    file = write(tmp_path / "a", "a", scores={"trec": 0.0})
    (axes,) = draw_ablation([read_summary(file)]).axes
    assert axes.get_ylim() == (0, 1)


def test_few_tasks_are_averaged_over_those_that_all_files_have(tmp_path):
    scores = [
        {"qasper": 10.0, "trec": 30.0, "lcc": 50.0},
        {"lcc": 40.0, "qasper": 20.0},
    ]
    files = [write(tmp_path / str(n), str(n), scores=each) for n, each in enumerate(scores)]
    assert common_means([read_summary(file) for file in files]) == {
        "mean of 2 tasks (qasper, lcc)": [30.0, 30.0]
    }


def test_what_score_writes_can_be_read(tmp_path):
    scores = {task: 10.0 + number for number, task in enumerate(AVERAGES["All"])}
    write_scores(tmp_path, scores, {"qasper": Origin("longbench", 200, 200)})
    summary = read_summary(tmp_path / "summary.json")
    assert summary.scores == scores
    assert summary.averages["All"] == pytest.approx(fmean(scores.values()), abs=0.01)
    assert summary.label


def test_bad_input(tmp_path, capsys):
    output = ["--output", tmp_path / "p.png"]
    a, b = (write(tmp_path / name, name, (1.0, 2.0, 3.0)) for name in "ab")
    refused(capsys, [str(a), "--iterations", "--kind ablation"], run, *[a, b, *output])
    refused(capsys, ["names 1", "2 files"], run, *[a, b, *output, "--iterations", 5])
    refused(capsys, [str(b), "iteration 5"], run, *[a, b, *output, "--iterations", 5, 5])
    refused(capsys, ["--seeds", "--kind window"], run, *[a, *output, "--seeds"])
    refused(capsys, ["--labels", "2 of 1"], run, *[a, *output, "--labels", "x", "y"])
    empty = write(tmp_path / "c", "c", scores={"trec": 1.0})
    flags = [*output, "--kind", "ablation"]
    lonely = write(tmp_path / "d", "d")
    refused(capsys, "no task is in all", run, *[empty, lonely, *flags])
    other = tmp_path / "e2.json"
    other.write_text(json.dumps(E2))
    refused(capsys, [str(other), SCHEMA], run, *[a, other, *flags])
    broken = write(tmp_path / "f", "f", averages=None)
    refused(capsys, [str(broken), "no scores"], run, *[broken, *flags])
    assert not (tmp_path / "p.png").exists()
