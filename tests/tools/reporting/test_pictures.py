# SPDX-License-Identifier: Apache-2.0
"""All pictures: labels as they are, lines that can be told apart, what numbers depend on."""

import ast
import io
import itertools
import json
import re
from pathlib import Path

import pytest

from e2_tools.commands import plot_results
from e2_tools.evaluation.attention.picture import draw_attention
from e2_tools.evaluation.longbench import plots as longbench
from e2_tools.evaluation.longbench.summaries import Summary
from e2_tools.evaluation.perplexity.plots import draw
from e2_tools.evaluation.retrieval.heat_map import Grid, draw_heat_maps
from e2_tools.evaluation.retrieval.results import draw_by_depth, draw_results
from e2_tools.evaluation.ruler.results import draw_scores
from e2_tools.plotting import COLORS, Looks, line_look
from e2_tools.reporting.collect import collect
from e2_tools.reporting.curves import Curve, draw_curves
from e2_tools.reporting.sections import sections_of
from tests.helpers import ROOT
from tests.tools.reporting.results import attention, ruler

# For matplotlib these are formulas, broken ones, and names that no legend shows.
LABELS = [r"$\frac{$", "$x$ and $", "_hidden", r"a\$b", "two\nlines", "% {} #", "long " * 60]


def perplexity(label, scales=(1.0, 2.0), **changes):
    rows = [
        {"window": 128 * 2**n, "scale": scale, "perplexity": 9.0 + n, "tokens": 24568}
        | {"perplexity_full_context": 8.0}
        for n, scale in enumerate(scales)
    ]
    data = {"path": "x.jsonl", "sha256": "0", "documents": 8}
    settings = {"protocol": "press", "stride": 128, "bos": True, "data": data}
    return {"schema": "e2-llm/perplexity/1", "label": label, **settings, "results": rows} | changes


def retrieval(test, label, windows=(128, 256, 512), depths=(0, 100), **changes):
    cells = [
        {"window": w, "depth": d, "scale": max(1, w / 128), "trials": 4, "correct": 2}
        | {"accuracy": 0.5}
        for w in windows
        for d in depths
    ]
    head = {"schema": f"e2-llm/{test}/1", "label": label, "trials": 4, "base_window": 128}
    return head | {"results": cells} | changes


LOSS = "training loss"
CURVES = {"lm loss": Curve([1, 2], [3.0, 2.0])}


def summary(label):
    scores = {"qasper": 20.0}
    return Summary(Path("x"), label, 7, {"EN": None, "ZH": None, "All": None}, scores, "made", {})


# Every function of e2_tools that returns a picture, given a label and title; None: has neither.
PICTURES = {
    "draw": lambda label: draw({label: perplexity(label)}, title=label),
    "draw_results": lambda label: draw_results(
        retrieval("needle", label, haystack={"path": label})
    ),
    "draw_by_depth": lambda label: draw_by_depth([retrieval("passkey", label)], label),
    "draw_heat_maps": lambda label: draw_heat_maps({label: Grid([1], [label], [[1.0]])}, label),
    "draw_scores": lambda label: draw_scores(ruler(label, {256: {"vt": 1}})),
    "draw_attention": lambda label: draw_attention(attention(label)),
    "draw_iterations": lambda label: longbench.draw_iterations([summary(label)], label),
    "draw_ablation": lambda label: longbench.draw_ablation([summary(label)], label),
    "draw_means": lambda label: longbench.draw_means([summary(label)], Looks()),
    "draw_curves": lambda label: draw_curves(dict.fromkeys((label, "x"), CURVES))[LOSS],
    "draw_parts": None,
    "draw_by_window": None,
    "distance_picture": None,
}


KINDS = ("Figure", "dict[str, Figure]")


def test_every_picture_is_here():
    found = set()
    for path in (ROOT / "e2_tools").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.returns is not None:
                returned = ast.unparse(node.returns).strip("'\"")
                if returned.split(" |")[0] in KINDS and not node.name.startswith("_"):
                    found.add(node.name)
    assert found == PICTURES.keys()


def texts(figure):
    figure.savefig(io.BytesIO(), format="svg")  # what a formula breaks
    return [
        text.get_text().replace("\u200b", "")
        for text in figure.findobj(type(figure.text(0, 0, "")))
    ]


@pytest.mark.parametrize("picture", [name for name, make in PICTURES.items() if make])
def test_labels_are_shown_as_they_are(picture):
    label = " ".join(LABELS)
    shown = "".join(texts(PICTURES[picture](label))).replace(r"\$", "$")
    assert "".join(label.split()) in "".join(shown.split())


@pytest.mark.parametrize("picture", [name for name, make in PICTURES.items() if make])
def test_titles_stay_within_the_picture(picture):
    figure = PICTURES[picture]("SmolLM2-135M (L = 8192), tuned on windows of 4,096: " * 3)
    figure.savefig(io.BytesIO(), format="png")
    titles = [figure._suptitle, *(each._left_title for each in figure.axes)]
    for title in (title for title in titles if title and title.get_text()):
        box = title.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width, title.get_text()


def test_a_legend_has_every_label():
    figure = draw({label: perplexity(label) for label in LABELS})
    assert len(figure.legends[0].get_texts()) == len(LABELS)
    figure = draw_curves(dict.fromkeys(LABELS, CURVES))[LOSS]
    assert len(figure.legends[0].get_texts()) == len(LABELS)


def test_no_two_lines_share_colour_and_mark():
    looks = [line_look(number) for number in range(400)]
    assert len({(look["color"], look["marker"]) for look in looks}) == len(looks)
    assert len({look["color"] for look in looks[: len(COLORS)]}) == len(COLORS)
    lines = draw({str(n): perplexity(str(n)) for n in range(30)}).axes[0].lines
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 30


def test_a_panel_that_lacks_lines_keeps_them_apart():
    """Of eight runs the first and the last have the same colour."""
    runs = {str(n): {"lm loss": Curve([1, 2], [3.0, n])} for n in range(8)}
    for name in ("0", "7"):
        runs[name]["grad-norm"] = Curve([1, 2], [1.0, 2.0])
    loss, norm = (
        {line.get_label(): (line.get_color(), line.get_marker()) for line in axes.lines}
        for axes in (figure.axes[0] for figure in draw_curves(runs).values())
    )
    assert len(set(loss.values())) == 8
    assert norm == {name: loss[name] for name in ("0", "7")}
    assert len(set(norm.values())) == 2


def test_a_model_has_one_colour_on_the_whole_page(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    for name in ("zebra", "ant"):  # found in the other order
        with SummaryWriter(str(tmp_path / "tensorboard" / name)) as writer:
            for step in (1, 2):
                writer.add_scalar("lm loss", step, step)
    for number, name in enumerate(("zebra", "ant")):
        (tmp_path / f"{number}.json").write_text(json.dumps(perplexity(name)))
    figures = [f for section in sections_of(collect(tmp_path)) for _, f in section.figures]
    looks = [
        {line.get_label().split(",")[0]: line.get_color() for line in figure.axes[0].lines}
        for figure in figures
    ]
    assert len(looks) == 2
    assert looks[0] == looks[1]
    assert len(set(looks[0].values())) == 2


def test_a_run_has_the_colour_of_its_export(tmp_path):
    looks = Looks(["base-hf", "e2-hf"])
    looks.share("e2", "e2-hf")
    assert looks.of("e2") == looks.of("e2-hf") != looks.of("base-hf")
    assert looks.of("other") == line_look(2)
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "tensorboard" / "e2")) as writer:
        for step in (1, 2):
            writer.add_scalar("lm loss", step, step)
    for name in ("base-hf", "e2-hf"):
        (tmp_path / f"{name}.json").write_text(json.dumps(perplexity(name)))
    figures = [f for section in sections_of(collect(tmp_path)) for _, f in section.figures]
    windows, curve = (figure.axes[0].lines for figure in figures)
    assert curve[0].get_color() == windows[1].get_color() != windows[0].get_color()


def test_a_palette_holds_for_several_pictures(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("e2_tools.plotting.save_png", lambda figure, path: drawn.append(figure))
    for name in "abc":
        (tmp_path / f"{name}.json").write_text(json.dumps(perplexity(name)))
    for names in ("ab", "cb"):
        files = [str(tmp_path / f"{name}.json") for name in names]
        plot_results.main([*files, "--output", str(tmp_path / "p.png"), "--palette", *"abc"])
    (a, b), (c, again) = ([line.get_color() for line in f.axes[0].lines] for f in drawn)
    assert b == again
    assert len({a, b, c}) == 3


# --- what the numbers depend on ---


def test_perplexities_say_protocol_stride_documents_tokens_and_scales():
    figure = draw({"a": perplexity("a"), "b": perplexity("b", (None, None), stride=64)})
    axes = figure.axes[0]
    assert axes.get_xlabel() == (
        "window (tokens)\nprotocol press, stride 128 / 64, 8 documents, 24,568 scored tokens"
    )
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["a, g = 1, 2", "b, own RoPE"]
    many = draw({"a": perplexity("a", [float(n) for n in range(1, 9)])})
    assert many.legends[0].get_texts()[0].get_text() == "a, g = 1 … 8"


@pytest.mark.parametrize(
    ("test", "title"), [("passkey", "Passkey"), ("needle", "Needle"), ("recall", "Span recall")]
)
def test_a_heat_map_says_its_test_trials_scales_and_l(test, title):
    axes = draw_results(retrieval(test, "E2", chat=True, haystack="noise")).axes[0]
    head, told = axes.get_title(loc="left").split("\n", 1)
    told = told.replace("\n", " ")
    assert head == f"{title}: E2"
    assert told.startswith("4 trials a cell")
    assert told.endswith("chat template")
    assert ("haystack noise" in told) == (test == "needle")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "128\ng 1",
        "256\ng 2",
        "512\ng 4",
    ]
    (mark,) = {tuple(line.get_xdata()) for line in axes.lines}
    assert mark == (0.5, 0.5)  # behind 128
    assert "L = 128" in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(
    ("base", "at"), [(64, -0.5), (300, 1.5), (512, 2.5), (9999, 2.5), (None, None)]
)
def test_l_stands_behind_the_windows_that_it_holds(base, at):
    axes = draw_results(retrieval("passkey", "E2", base_window=base)).axes[0]
    assert {line.get_xdata()[0] for line in axes.lines} == ({at} if base else set())


def test_passkey_and_needle_of_one_label_are_not_mixed():
    figure = draw_by_depth([retrieval("passkey", "E2"), retrieval("needle", "E2")])
    titles = [axes.get_title(loc="left").split("\n")[0] for axes in figure.axes if axes.images]
    assert titles == ["Passkey: E2", "Needle: E2"]


@pytest.mark.parametrize(("columns", "rows"), [(32, 40), (90, 3)])
def test_a_grid_of_any_size_stays_readable(columns, rows):
    windows = [4096 * n for n in range(1, columns + 1)]
    figure = draw_results(retrieval("needle", "E2", windows, [100 * n / rows for n in range(rows)]))
    width, height = figure.get_size_inches()
    assert max(width, height) < 14
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for labels, side in ((axes.get_xticklabels(), "x"), (axes.get_yticklabels(), "y")):
        spans = [getattr(label.get_window_extent(), f"interval{side}") for label in labels]
        spans = sorted((min(span), max(span)) for span in spans)
        assert all(before[1] <= after[0] + 0.5 for before, after in itertools.pairwise(spans))
        assert len(spans) >= 3


def test_runs_keep_their_colour_in_the_curves_of_their_parts():
    parts = ["lm loss validation/window 64", "lm loss validation/window 128"]
    runs = {name: CURVES | dict.fromkeys(parts, CURVES["lm loss"]) for name in ("a", "b")}
    loss, validation = (figure.axes[0].lines for figure in draw_curves(runs).values())
    own = {line.get_label(): line.get_color() for line in loss}
    assert [own[line.get_label().split(",")[0]] for line in validation] == [
        line.get_color() for line in validation
    ]
    assert len({(line.get_color(), line.get_marker()) for line in validation}) == 4
    (alone,) = (f for title, f in draw_curves({"a": runs["a"]}).items() if title != LOSS)
    assert len({line.get_color() for line in alone.axes[0].lines}) == 2


def test_the_page_says_it_too(tmp_path):
    settings = {"base_window": 128, "dtype": "fp32", "frequencies": "yarn"}
    (tmp_path / "p.json").write_text(json.dumps(perplexity("E2", **settings)))
    (tmp_path / "k.json").write_text(json.dumps(retrieval("passkey", "E2", chat=True)))
    tables = [table for section in sections_of(collect(tmp_path)) for table in section.tables]
    told = {table.caption: dict(zip(table.head, table.rows[0], strict=True)) for table in tables}
    found = told["How the perplexities were measured."]
    first = found.pop("checkpoint")
    assert (first.text, first.small, first.sources) == ("E2", ("p.json",), (2,))
    assert found == {
        "windows": "128, 256",
        "scale": "g = 1, 2",
        "L": "128",
        "frequencies": "yarn",
        "dtype": "fp32",
        "protocol": "press",
        "stride": "128",
        "documents": "8",
        "scored tokens": "24,568",
    }
    asked = told["How they were asked."]
    assert (asked["trials a cell"], asked["chat template"], asked["L"]) == ("4", "yes", "128")
    assert re.fullmatch(r"g = 1, 2, 4", asked["scale"])
