# SPDX-License-Identifier: Apache-2.0
"""The page of a run: what is on it, and that it loads nothing."""

import json
import re
import shutil

import pytest
from torch.utils.tensorboard import SummaryWriter

from e2_tools.commands.report import main
from e2_tools.reporting.collect import collect
from e2_tools.reporting.curves import read_scalars
from e2_tools.reporting.sections import PARTS, sections_of
from tests.helpers.commands import refused
from tests.tools.reporting.results import PICTURES, attention, perplexity, report


def test_the_page_has_the_numbers_of_every_file(run, capsys):
    page = report(run, "--title", "A <run>")
    assert "report: " in capsys.readouterr().out
    for text in (
        "50.25",
        "49.75",
        "61.50",
        "20.25",
        "34.5 %",
        "87.50 %",
        "effective window",
    ):
        assert text in page
    for text in ("A &lt;run&gt;", "abc123"):
        assert text in page
    assert "base &lt;b&gt;&amp;" in page
    assert "7 result files, 1 training run<" in page
    assert "A GPU, 2 x A CPU, 7.5 GiB" in page
    assert "--model &#39;a b&#39;" in page
    assert "never seen" not in page
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        *("Summary", "RULER", "Perplexity by window", "Needle in a haystack", "Passkey"),
        *("Tasks in LongBench&#39;s format", "Attention", "Training"),
        "Where the numbers come from",
    ]
    assert page.count("<img src=") == PICTURES
    assert len(re.findall(r' id="(.*?)"', page)) == len(set(re.findall(r' id="(.*?)"', page)))
    for anchor in re.findall(r'href="#(.*?)"', page):
        assert f'id="{anchor}"' in page


def test_the_page_loads_nothing_and_comes_out_the_same(run):
    page = report(run)
    assert not re.findall(r"<(script|link|iframe)|https?:|@import|url\(", page)
    assert set(re.findall(r'src="(.{15})', page)) == {"data:image/svg+x"[:15]}
    # The clip paths of pictures have random names, fixed by the results: none is drawn at random.
    assert re.sub(r"base64,[\w+/=]+", "", report(run)) == re.sub(r"base64,[\w+/=]+", "", page)


def section(folder, title, **options):
    """A section without its pictures' bytes, which take most of a page's time."""
    (found,) = (s for s in sections_of(collect(folder), **options) if s.title == title)
    return found


def test_files_that_do_not_compare_are_said_to(run):
    (run / "base.json").write_text(json.dumps(perplexity("base", {128: 1.5}) | {"stride": 7}))
    (note,) = section(run, "Perplexity by window").notes
    assert note.startswith("These files differ in stride")


def test_attention_without_a_question_has_no_answer(run):
    content = attention("E2 attention")
    (row,) = content["results"]
    row |= {"correct": None, "value_span": None, "pair_spans": [], "answer": "as the text goes on"}
    row["layers"]["1"] |= {"on_value": None, "on_first": 0.25, "on_last": 0.5}
    (run / "attention.json").write_text(json.dumps(content))
    (table,) = section(run, "Attention").tables
    assert table.rows[0][2:] == ["-", "-", "as the text goes on"]


def test_scores_of_several_iterations_are_drawn_over_them(run):
    title = "Tasks in LongBench's format"
    assert section(run, title).figures[0][0] == "Means of the tasks that all checkpoints have."
    for iteration in (1000, 2000):
        path = run / "longbench" / str(iteration) / "summary.json"
        path.parent.mkdir()
        scores = {"trec": iteration / 100, "qasper": 20.25}
        summary = {"schema": "e2-llm/longbench/1", "label": "E2", "iteration": iteration}
        path.write_text(json.dumps({**summary, "averages": {}, "scores": scores}))
    (run / "longbench" / "summary.json").unlink()
    found = section(run, title)
    assert found.figures[0][0] == "Means by training iteration."
    assert [cell.text for cell in found.tables[0].rows[0][1:]] == ["10.00", "20.00"]


def test_seeds_of_one_label_become_a_mean(run):
    for seed, value in enumerate((10.0, 14.0)):
        path = run / f"seed{seed}" / "x.json"
        path.parent.mkdir()
        path.write_text(json.dumps(perplexity("seeded", {128: value, 512: value})))
    title = "Perplexity by window"
    rows = {row[0].text: row for row in section(run, title, seeds=True).tables[0].rows}
    assert (rows["seeded"][1].text, rows["seeded"][1].small[0]) == ("12.00", "± 2.83 over 2 seeds")
    assert rows["seeded"][0].sources == (4, 5)
    rows = {row[0].text for row in section(run, title).tables[0].rows}
    assert {"seeded (seed0/x.json)", "seeded (seed1/x.json)"} < rows


def test_curves_are_read_back_the_newest_value_of_a_step(run):
    folder = run / "tensorboard" / "e2"
    with SummaryWriter(str(folder), filename_suffix=".resumed") as writer:
        writer.add_scalar("lm loss", 1.25, 5)
    (resumed,) = folder.glob("*.resumed")
    resumed.rename(folder / "events.out.tfevents.0")  # TensorBoard reads in the order of names
    curve = read_scalars(folder)["lm loss"]
    assert curve.steps == [1, 2, 3, 4, 5]
    assert curve.values == pytest.approx([4.5, 4.0, 3.5, 3.0, 1.25])
    assert collect(run).events == [folder]


@pytest.mark.parametrize("kind", [kind.partition("/")[2] for kind in PARTS])
@pytest.mark.parametrize("more", [{}, {"results": []}, {"results": [{}], "before": 1}])
def test_a_file_of_any_kind_that_is_not_whole_is_one_line(tmp_path, capsys, kind, more):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"schema": f"e2-llm/{kind}/1", "label": "x", **more}))
    refused(capsys, [str(path)], main, [str(tmp_path)], untouched=tmp_path)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: shutil.rmtree(folder), ["no such folder"]),
        (lambda folder: None, ["holds no result file"]),
        (
            lambda folder: (folder / "x.json").write_text('{"schema": "e2-llm/passkey/1", "resu'),
            ["x.json", "not whole JSON"],
        ),
        (
            lambda folder: (folder / "x.json").write_text('{"schema": "e2-llm/perplexity/1"}'),
            ["x.json", "no complete results"],
        ),
        (
            lambda folder: (folder / "x.json").write_text('{"schema": "e2-llm/passkey/1"}'),
            ["x.json", "holds no results"],
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, prepare, words):
    folder = tmp_path / "run"
    folder.mkdir()
    prepare(folder)
    refused(capsys, words, main, [str(folder)], untouched=folder)
