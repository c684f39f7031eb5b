# SPDX-License-Identifier: Apache-2.0
"""The page of a run: what is on it, that it loads nothing, that a browser shows it."""

import json
import os
import re
import shutil

import pytest
from torch.utils.tensorboard import SummaryWriter

from e2_tools.commands.report import main
from e2_tools.evaluation.perplexity.results import SCHEMA as PERPLEXITY
from e2_tools.reporting.collect import collect
from e2_tools.reporting.curves import read_scalars
from tests.helpers.commands import refused, run_command

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
DATA = {"path": "held_out.jsonl", "sha256": "0" * 64, "documents": 2, "tokens": 100}


def perplexity(label, values, **more):
    rows = [
        {"window": window, "scale": 1.0, "perplexity": value, "perplexity_full_context": value}
        | {"tokens": 98, "tokens_full_context": 50}
        for window, value in values.items()
    ]
    settings = {"protocol": "press", "stride": 16, "bos": True, "full_context_from": 64}
    return {"schema": PERPLEXITY, "label": label, "data": DATA, **settings, "results": rows, **more}


def grid(schema, label):
    cells = [
        {"window": window, "depth": depth, "trials": 4, "correct": right, "accuracy": right / 4}
        for window, depth, right in ((256, 0, 4), (256, 50, 3), (512, 0, 1), (512, 50, 0))
    ]
    return {"schema": schema, "label": label, "trials": 4, "results": cells}


def ruler(label, shares):
    cells = [
        {"window": window, "task": task, "scale": 1.0, "trials": 2, "scores": [share, share]}
        | {"correct": 2 * share, "accuracy": share, "score": 100 * share}
        for window, tasks in shares.items()
        for task, share in tasks.items()
    ]
    return {"schema": "e2-llm/ruler/1", "label": label, "trials": 2, "results": cells}


def attention(label):
    row = {"window": 64, "scale": 2, "prompt_tokens": 48, "answer": "bb3b", "correct": True}
    row |= {"tokens": ["bb", "3b"], "value_span": [20, 24], "pair_spans": [[10, 18], [20, 24]]}
    layers = {"1": {"on_value": 0.345, "rows": [[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]]}}
    settings = {"layers": [1], "heads": None, "pool": "max"}
    return {
        "schema": "e2-llm/attention/1",
        "label": label,
        **settings,
        "results": [row | {"layers": layers}],
    }


@pytest.fixture
def run(tmp_path):
    """A folder as the evaluate commands and a training leave it, and a model that lies there."""
    origin = {
        "command": "python tools/evaluate_perplexity.py --model 'a b'",
        "commit": "abc123",
        "versions": {"torch": "2.11.0"},
        "hardware": {"cpu": "A CPU", "cores": 2, "memory_gib": 7.5, "gpus": ["A GPU"]},
    }
    files = {
        "base.json": perplexity("base <b>&", {128: 50.25, 512: 70.5}),
        "deep/e2.json": perplexity("E2", {128: 51.125, 512: 49.75}, provenance=origin),
        "passkey.json": grid("e2-llm/passkey/1", "E2 passkey"),
        "needle.json": grid("e2-llm/needle/1", "E2 needle"),
        "ruler.json": ruler("E2 ruler", {256: {"vt": 1, "fwe": 0.75}, 512: {"vt": 0.5}}),
        "longbench/summary.json": {
            "schema": "e2-llm/longbench/1",
            "averages": {"EN": None, "ZH": None, "All": None},
            "scores": {"trec": 61.5, "qasper": 20.25},
        },
        "longbench/settings.json": {"schema": "e2-llm/longbench-predict/1"},
        "attention.json": attention("E2 attention"),
        "model/config.json": {"model_type": "llama"},
        ".hidden/e2.json": perplexity("never seen", {128: 1.0}),
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    with SummaryWriter(str(tmp_path / "tensorboard" / "e2")) as writer:
        for step in range(1, 6):
            writer.add_scalar("lm loss", 5 - step / 2, step)
            writer.add_scalar("lm loss validation/window 512", 6 - step / 2, step)
    return tmp_path


def report(folder, *flags):
    main([str(folder), *flags])
    return (folder / "report.html").read_text()


def test_the_page_has_the_numbers_of_every_file(run, capsys):
    page = report(run, "--title", "A <run>")
    assert "report: " in capsys.readouterr().out
    for text in (
        "50.25",
        "49.75",
        "61.50",
        "20.25",
        "50.0 %",
        "34.5 %",
        "87.50",
        "effective window: 256",
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
        *("Perplexity by window", "Tasks in LongBench&#39;s format", "Passkey"),
        *("Needle in a haystack", "RULER"),
        *("Attention", "Training", "Where the numbers come from"),
    ]
    assert page.count("<img src=") == 7
    for anchor in re.findall(r'href="#(.*?)"', page):
        assert f'id="{anchor}"' in page


def test_the_page_loads_nothing_and_comes_out_the_same(run):
    page = report(run)
    assert not re.findall(r"<(script|link|iframe)|https?:|@import|url\(", page)
    assert set(re.findall(r'src="(.{15})', page)) == {"data:image/svg+x"[:15]}
    # The clip paths of pictures have random names, fixed by the results: none is drawn at random.
    assert re.sub(r"base64,[\w+/=]+", "", report(run)) == re.sub(r"base64,[\w+/=]+", "", page)


def test_files_that_do_not_compare_are_said_to(run):
    (run / "base.json").write_text(json.dumps(perplexity("base", {128: 1.5}) | {"stride": 7}))
    assert "These files differ in stride" in report(run)


def test_attention_without_a_question_has_no_answer(run):
    content = attention("E2 attention")
    (row,) = content["results"]
    row |= {"correct": None, "value_span": None, "pair_spans": [], "answer": "as the text goes on"}
    row["layers"]["1"] |= {"on_value": None, "on_first": 0.25, "on_last": 0.5}
    (run / "attention.json").write_text(json.dumps(content))
    page = report(run)
    cells = re.findall(r"<td.*?>(.*?)</td>", page[page.index(">as the text goes on<") - 200 :])
    assert cells[cells.index("as the text goes on") - 2 :][:2] == ["-", "-"]


def test_scores_of_several_iterations_are_drawn_over_them(run):
    assert "Means of the tasks that all models have." in report(run)
    for iteration in (1000, 2000):
        path = run / "longbench" / str(iteration) / "summary.json"
        path.parent.mkdir()
        scores = {"trec": iteration / 100, "qasper": 20.25}
        summary = {"schema": "e2-llm/longbench/1", "label": "E2", "iteration": iteration}
        path.write_text(json.dumps({**summary, "averages": {}, "scores": scores}))
    (run / "longbench" / "summary.json").unlink()
    page = report(run)
    assert "Means by training iteration." in page
    assert re.search(r"<td>trec</td><td>\?</td><td>10.00</td><td>20.00</td>", page)


def test_seeds_of_one_label_become_a_mean(run):
    for seed, value in enumerate((10.0, 14.0)):
        path = run / f"seed{seed}" / "x.json"
        path.parent.mkdir()
        path.write_text(json.dumps(perplexity("seeded", {128: value, 512: value})))
    assert "12.00 ± 2.83" in report(run, "--seeds")
    page = report(run)
    assert "12.00 ±" not in page
    assert f"seeded ({run / 'seed0' / 'x.json'})" in page


def test_curves_are_read_back_the_newest_value_of_a_step(run):
    folder = run / "tensorboard" / "e2"
    with SummaryWriter(str(folder), filename_suffix=".resumed") as writer:
        writer.add_scalar("lm loss", 1.25, 5)
    curve = read_scalars(folder)["lm loss"]
    assert curve.steps == [1, 2, 3, 4, 5]
    assert curve.values == pytest.approx([4.5, 4.0, 3.5, 3.0, 1.25])
    assert collect(run).events == [folder]


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
            ["x.json", "evaluate anew"],
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, prepare, words):
    folder = tmp_path / "run"
    folder.mkdir()
    prepare(folder)
    refused(capsys, words, main, [str(folder)], untouched=folder)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_every_picture_and_asks_for_nothing(run, tmp_path):
    page = report(run)
    # What the browser made of it, told by a script that only this copy allows and holds.
    script = """<script>addEventListener("load", () => { const images = [...document.images];
        const asked = performance.getEntriesByType("resource").map(entry => entry.name);
        document.body.innerHTML = JSON.stringify({
            pictures: images.filter(image => image.naturalWidth > 100).length,
            asked: asked.filter(name => !name.startsWith("data:")),
            sections: document.querySelectorAll("section").length,
            wider: document.documentElement.scrollWidth - innerWidth }); })</script>"""
    copy = page.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'")
    assert copy != page
    path = run / "copy.html"
    path.write_text(copy.replace("</body>", script + "</body>"))
    command = [CHROMIUM, "--headless", "--disable-gpu", "--no-first-run", "--disable-sync"]
    command += ["--disable-background-networking", "--disable-component-update"]
    command += ["--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--no-sandbox"] * (os.geteuid() == 0)
    shown = run_command(*command, "--dump-dom", path.as_uri()).stdout
    seen = json.loads(re.search(r"<body>(\{.*?\})", shown, flags=re.DOTALL)[1])
    assert seen["pictures"] == 7
    assert seen["sections"] == 8
    assert seen["asked"] == []
    assert seen["wider"] <= 0
