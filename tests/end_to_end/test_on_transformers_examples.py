# SPDX-License-Identifier: Apache-2.0
"""`make demo-hf` and examples/hf_lora at a reduced size: every step of them."""

import json

import pytest

from tests.helpers.commands import run_command

SMALL = ["--base-steps", "6", "--tune-steps", "4", "--document-tokens", "300"]
SMALL += ["--windows", "128 256"]
LORA = ["--steps", "2", "--window", "64", "--rank", "2", "--windows", "128 256"]
LORA += ["--document-tokens", "300"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    script = "examples/quickstart/on_transformers.sh"
    run = run_command(script, "--out", out, *SMALL, timeout=700)
    return out, run.stdout


def test_the_demo_ends_in_a_table(demo):
    out, said = demo
    assert "E2, recipe best, on transformers" in said
    assert (out / "perplexity_by_window_transformers.png").is_file()
    for name in ("control", "e2", "best"):
        result = json.loads((out / f"{name}-transformers.json").read_text())
        assert [row["window"] for row in result["results"]] == [128, 256]


def test_a_lora_of_its_base_model_is_merged_and_evaluated(demo, tmp_path):
    out, _ = demo
    options = ["--model", out / "base-hf", "--out", tmp_path, *LORA]
    texts = ["--text", out / "train.jsonl", "--held-out", out / "held_out.jsonl"]
    said = run_command("examples/hf_lora/run.sh", *options, *texts, timeout=400).stdout
    assert "> LoRA: rank 2" in said
    assert "E2 by LoRA, one model" in said
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())
    assert config["e2_llm"]["iteration"] == 2
    again = run_command("examples/hf_lora/run.sh", *options, *texts, timeout=100).stdout
    assert "iteration" not in again  # finished steps are skipped
