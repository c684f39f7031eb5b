# SPDX-License-Identifier: Apache-2.0
"""`make demo` at a reduced size: every step of it, so that it never rots."""

import json
import shutil
import time

import pytest
from PIL import Image

from tests.helpers import ROOT
from tests.helpers.commands import run_command
from tests.helpers.quick_python import quick_python

STAND_IN = ROOT / "tests" / "end_to_end" / "stand_in_python.sh"
SMALL = ["--base-steps", "6", "--tune-steps", "4", "--document-tokens", "300"]
SMALL += ["--windows", "128 256"]


def quickstart(out, *options, **more):
    script = "examples/quickstart/run.sh"
    return run_command(script, "--out", out, *options, **{"timeout": 400, **more})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("quickstart") / "out"
    return out, quickstart(out, *SMALL, PYTHON=quick_python()).stdout


@pytest.mark.timeout(450)
def test_ends_with_the_table_and_the_picture(finished):
    out, output = finished
    assert "| E2, recipe paper, one checkpoint |" in output
    for label in (
        "base model, linear scaling",
        "base model, YaRN scaling",
        "more training, YaRN scaling",
    ):
        assert f"| {label} |" in output
    with Image.open(out / "perplexity_by_window.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 800


def test_e2_is_one_checkpoint_at_every_window(finished):
    out, _ = finished
    results = json.loads((out / "e2.json").read_text())
    assert [(row["window"], row["scale"]) for row in results["results"]] == [(128, 1), (256, 2)]
    assert results["model"].endswith("e2-hf")
    config = json.loads((out / "e2-hf" / "config.json").read_text())
    assert config["e2_llm"]["max_scale"] == 16
    assert config["e2_llm"]["iteration"] == 4
    best = json.loads((out / "best-hf" / "config.json").read_text())
    assert best["rope_parameters"]["rope_type"] == "yarn"
    assert best["e2_llm"]["whole_scales"] is False


def test_a_second_run_skips_what_is_finished(finished):
    out, _ = finished
    started = time.monotonic()
    again = quickstart(out, *SMALL)
    assert "| E2, recipe paper, one checkpoint |" in again.stdout
    assert time.monotonic() - started < 30


def test_other_settings_do_not_mix(finished):
    out, _ = finished
    other = quickstart(out, *SMALL, "--tune-steps", "5", code=2)
    assert "other settings" in other.stderr


@pytest.mark.parametrize("script", ["run", "on_transformers"])
@pytest.mark.parametrize("faster", ["fp32", "bf16"])
def test_the_type_is_chosen_once(tmp_path, script, faster):
    # The scripts alone, without a model: what is faster now, and then what the folder has.
    calls = tmp_path / "calls"
    for now in (faster, "bf16" if faster == "fp32" else "fp32"):
        calls.unlink(missing_ok=True)
        more = {"PYTHON": STAND_IN, "CALLS": calls, "FASTER": now, "code": None}
        shutil.rmtree(tmp_path / "out" / "base", ignore_errors=True)
        run_command(f"examples/quickstart/{script}.sh", "--out", tmp_path / "out", **more)
        asked = [line.split("\x1f") for line in calls.read_text().splitlines()]
        base = next(words for words in asked if str(tmp_path / "out" / "base") in words)
        assert ("--bf16" in base) is (faster == "bf16")
        assert (["examples/quickstart/dtype.py", ""] in asked) is (now == faster)


def test_the_faster_type_is_one_of_two():
    told = run_command("examples/quickstart/dtype.py")
    assert told.stdout.strip() in ("fp32", "bf16")
    assert f"note: --dtype auto: {told.stdout.strip()}, a product" in told.stderr


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_at_four_times_the_window_e2_is_the_best(tmp_path):
    # README's table at its full size: about ten minutes.
    quickstart(tmp_path / "out", timeout=2300)
    perplexity = {}
    for name in ("base", "linear", "yarn", "control", "control_yarn", "e2", "best"):
        rows = json.loads((tmp_path / "out" / f"{name}.json").read_text())["results"]
        perplexity[name] = {row["window"]: row["perplexity"] for row in rows}
    for window in (512, 1024, 2048):
        others = (perplexity[name][window] for name in ("base", "linear", "control"))
        assert perplexity["e2"][window] < min(others)
        assert perplexity["best"][window] < perplexity["control_yarn"][window]
    assert all(value < perplexity["e2"][window] for window, value in perplexity["best"].items())
