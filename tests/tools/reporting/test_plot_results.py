# SPDX-License-Identifier: Apache-2.0
"""The plot and the Markdown table across result files."""

import json

import pytest
from matplotlib import image

from e2_tools.commands.plot_results import main
from e2_tools.evaluation.perplexity.plots import draw
from e2_tools.evaluation.perplexity.results import METRICS, SCHEMA
from e2_tools.evaluation.perplexity.seeds import over_seeds
from e2_tools.plotting import tick_label
from tests.helpers.commands import refused


def make_results(label, perplexities, **changes):
    rows = [
        {
            "window": window,
            "scale": max(1.0, window / 1024),
            "perplexity": value,
            "perplexity_full_context": None if value is None else value - 1,
        }
        for window, value in perplexities.items()
    ]
    data = {"path": "a.jsonl", "sha256": "00", "documents": 1, "tokens": 9}
    settings = {"data": data, "protocol": "press", "stride": 256, "bos": True}
    return {"schema": SCHEMA, "label": label, "results": rows} | settings | changes


E2 = make_results("E2-LLM", {1024: 10.0, 2048: 9.0, 4096: 8.5})
PLAIN = make_results("pre-trained", {1024: 9.5, 2048: 60.0, 8192: 700.0})


@pytest.fixture
def files(tmp_path):
    paths = []
    for number, results in enumerate((E2, PLAIN)):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(json.dumps(results))
    return paths


def run(*arguments):
    main([str(argument) for argument in arguments])


def test_writes_a_png_and_a_table(files, tmp_path, capsys):
    output = tmp_path / "new" / "plot.png"
    run(*files, "--output", output, "--title", "T", "--train-window", 2048, "--table")
    assert image.imread(output).shape[:2] == (750, 1200)  # 8 x 5 inches at 150 dpi
    assert [file.name for file in output.parent.iterdir()] == ["plot.png"]
    assert capsys.readouterr().out.splitlines() == [
        "| window | 1024 | 2048 | 4096 | 8192 |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| E2-LLM | 10.00 | 9.00 | 8.50 | - |",
        "| pre-trained | 9.50 | 60.00 | - | 700.00 |",
    ]


def test_axes_carry_what_a_reader_needs():
    figure = draw({"E2-LLM": E2, "pre-trained": PLAIN}, title="Title", train_window=1024)
    (axes,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "E2-LLM, g = 1, 2, 4",
        "pre-trained, g = 1, 2, 8",
    ]
    assert axes.get_xlabel() == "window (tokens)\nprotocol press, stride 256, 1 documents"
    assert axes.get_xscale() == "log"
    assert list(axes.get_xticks()) == [1024, 2048, 4096, 8192]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1k", "2k", "4k", "8k"]
    assert axes.get_yscale() == "log"  # 8.5 to 700
    assert axes.get_title("left") == "Title"
    assert any("trained here" in text.get_text() for text in axes.texts)
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["E2-LLM, g = 1, 2, 4"].get_ydata()) == [10.0, 9.0, 8.5]
    assert len({line.get_color() for line in lines.values()}) == len(lines)


def test_a_narrow_range_stays_linear_and_the_metric_is_chosen():
    (axes,) = draw({"E2-LLM": E2}, "perplexity_full_context").axes
    assert axes.get_yscale() == "linear"
    assert list(axes.lines[0].get_ydata()) == [9.0, 8.0, 7.5]
    assert "full context" in axes.get_ylabel()


def test_ticks_are_tokens():
    assert [tick_label(w) for w in (512, 1024, 1500, 131072)] == ["512", "1k", "1500", "128k"]


def test_equal_labels_are_told_apart(files, tmp_path, capsys):
    run(files[0], files[0], files[1], "--output", tmp_path / "p.png", "--table")
    assert f"| E2-LLM ({files[0]}) |" in capsys.readouterr().out


def with_intervals(results):
    rows = [
        row | {"perplexity_interval": [0.9 * row["perplexity"], 1.2 * row["perplexity"]]}
        for row in results["results"]
    ]
    return results | {"results": rows}


def test_intervals_are_bars_beside_each_other(tmp_path, capsys):
    files = {"a": with_intervals(E2), "b": with_intervals(E2)}
    (axes,) = draw(files, intervals=True).axes
    bars = [bar for group in axes.collections for bar in group.get_segments()]
    ends = [sorted(bar[:, 1]) for bar in bars]
    expected = [[9.0, 12.0], [8.1, 10.8], [7.65, 10.2]] * 2
    assert [end for pair in ends for end in pair] == pytest.approx(sum(expected, []))
    assert bars[0][0, 0] < 1024 < bars[3][0, 0]
    assert axes.get_ylim()[1] > 12
    path = tmp_path / "a.json"
    path.write_text(json.dumps(files["a"]))
    run(path, "--output", tmp_path / "p.png", "--intervals", "--table")
    assert "| E2-LLM | 10.00 (9.00 … 12.00) |" in capsys.readouterr().out


def test_intervals_that_are_not_there(files, tmp_path, capsys):
    output = ["--output", tmp_path / "p.png", "--intervals"]
    refused(capsys, ["--intervals", "'E2-LLM'"], run, *[files[0], *output])
    refused(capsys, ["--intervals", "--seeds"], run, *[files[0], *output, "--seeds"])


def test_a_collection_is_drawn_as_the_files_are(tmp_path, capsys):
    paths = [tmp_path / f"{number}.json" for number in range(4)]
    for number, path in enumerate(paths):
        label, stride = ("E2-LLM", "base")[number % 2], 256
        results = make_results(label, {1024: 10.0 + number, 2048: 9.0}, stride=stride)
        origin = {"commit": f"c{number % 2}", "versions": {"numpy": "2"}, "command": "x"}
        path.write_text(json.dumps(results | {"model": f"m{number}", "provenance": origin}))
    collected = tmp_path / "new" / "all.json"
    draw_them = ["--seeds", "--table", "--output", tmp_path / "p.png"]
    run(*paths, *draw_them, "--collect", collected)
    table = capsys.readouterr().out
    first = image.imread(tmp_path / "p.png")
    assert len(collected.read_text().splitlines()) == len(paths) + 2
    again = tmp_path / "again.json"
    run(collected, *draw_them, "--collect", again)
    for path in (collected, again):
        origin = json.loads(path.read_text())["provenance"]
        assert origin == {"commit": ["c0", "c1"], "versions": [{"numpy": "2"}], "hardware": []}
    assert capsys.readouterr().out == table
    assert (image.imread(tmp_path / "p.png") == first).all()
    run(collected, "--labels", *"abcd", "--table", "--output", tmp_path / "p.png")
    assert "| c | 12.00 | 9.00 |" in capsys.readouterr().out
    collected.write_text(collected.read_text().replace('"rows"', '"lines"'))
    refused(capsys, "collect the results again", run, collected, *draw_them)


def test_seeds_are_put_together(tmp_path, capsys):
    runs = [make_results("E2-LLM", {1024: value, 2048: 9.0}) for value in (10.0, 11.0, 15.0)]
    paths = [tmp_path / f"{number}.json" for number in range(3)]
    for path, results in zip(paths, runs, strict=True):
        path.write_text(json.dumps(results))
    run(*paths, "--output", tmp_path / "p.png", "--table", "--seeds")
    # statistics.stdev([10, 11, 15]) is sqrt(7)
    assert "| E2-LLM | 12.00 ± 2.65 | 9.00 ± 0.00 |" in capsys.readouterr().out
    (axes,) = draw(over_seeds(list(zip(paths, runs, strict=True)), METRICS)).axes
    assert list(axes.lines[0].get_ydata()) == [12.0, 9.0]
    (band,) = axes.collections
    x, y = band.get_paths()[0].vertices.T
    assert {(1024, 10.0), (1024, 15.0), (2048, 9.0)} <= set(zip(x, y, strict=True))


def test_seeds_need_the_same_windows(files, tmp_path, capsys):
    files[1].write_text(json.dumps(make_results("E2-LLM", {1024: 1.0})))
    arguments = [*files, "--output", tmp_path / "p.png", "--seeds"]
    refused(capsys, [str(files[1]), "other windows"], run, *arguments)


def test_files_that_do_not_compare_are_noted(files, tmp_path, capsys):
    files[1].write_text(json.dumps(PLAIN | {"stride": 64}))
    run(*files, "--output", tmp_path / "p.png")
    assert capsys.readouterr().err == "note: these files differ in stride: do not compare them\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["cannot be read"]),
        ("{", ["not JSON"]),
        ('{"schema": "e2-llm/longbench/1"}', ["e2-llm/longbench/1", SCHEMA]),
        ("[]", ["schema"]),
        (json.dumps(E2 | {"results": []}), ["no complete results"]),
        (json.dumps(E2 | {"results": [{"window": 5}]}), ["no complete results"]),
    ],
)
def test_bad_result_files(files, tmp_path, capsys, content, words):
    bad = tmp_path / "bad.json"
    if content is not None:
        bad.write_text(content)
    refused(capsys, [str(bad), *words], run, *[*files, bad, "--output", tmp_path / "p.png"])
    assert not (tmp_path / "p.png").exists()


def test_bad_flags(files, tmp_path, capsys):
    refused(capsys, ["p.pdf", ".png"], run, *[*files, "--output", tmp_path / "p.pdf"])
    png = tmp_path / "p.png"
    refused(capsys, "--train-window 0", run, *[*files, "--output", png, "--train-window", 0])
    short = make_results("short", {1024: 5.0})
    short["results"][0]["perplexity_full_context"] = None
    files[0].write_text(json.dumps(short))
    flags = ["--output", png, "--metric", "perplexity_full_context"]
    refused(capsys, ["short", "--metric"], run, *[files[0], *flags])
    assert not png.exists()
