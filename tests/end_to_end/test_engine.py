# SPDX-License-Identifier: Apache-2.0
"""benchmarks/engine.py: an engine that computes the same, one that does not, and one that fails."""

import shutil
import stat

import pytest
import torch

from benchmarks.engine import compare, sentence
from tests.distributed.corpus import make_tokenizer
from tests.helpers.commands import refused_by, run_command
from tests.helpers.families import make_model
from tests.helpers.quick_python import quick_python

SCRIPT = "benchmarks/engine.py"


def test_how_far_two_are_apart():
    ours = torch.tensor([[0.5, 0.3, 0.2 - 1e-6, 1e-6], [0.1, 0.2, 0.3, 0.4]]).log()
    same = [{str(i): float(value) for i, value in enumerate(row)} for row in ours]
    assert compare(same, ours) == {"positions": 2, "same": 2, "worst": 0.0}
    same[0]["3"] -= 5  # neither finds it likely
    same[1]["2"] += 0.5  # now the most likely one
    found = compare(same, ours)
    assert (found["same"], found["worst"]) == (1, pytest.approx(0.5))
    text = sentence({"name": "x", "version": "1", "window": 64}, found)
    assert text.startswith("x 1, window 64: the most likely token is the same at 1 of 2")


@pytest.fixture
def model(tmp_path):
    """A tiny model with a tokenizer, and a text."""
    folder = tmp_path / "model"
    make_model("smollm2").save_pretrained(folder)
    for file in make_tokenizer(tmp_path).iterdir():
        shutil.copy(file, folder)
    text = tmp_path / "text"
    text.write_text(" ".join(f"w{index * 7 % 254}" for index in range(100)))
    return [folder, "--text", text, "--tokens", 64]


# Stands in for an interpreter with vLLM: transformers' own numbers, of a model whose weights, or
# whose RoPE, it may have changed.
FAKE = """#!{python}
import json, pathlib, sys
import torch
from transformers import AutoModelForCausalLM
_, folder, question, answer = sys.argv[1:]
asked = json.loads(pathlib.Path(question).read_text())
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
model.model.rotary_emb.inv_freq /= {factor}
with torch.no_grad():
    logits = model(torch.tensor([asked["tokens"]])).logits[0, asked["positions"]]
rows = [dict(enumerate(row)) for row in logits.log_softmax(-1).tolist()]
pathlib.Path(answer).write_text(json.dumps({{"version": "0", "rows": rows}}))
"""


def fake(tmp_path, factor):
    program = tmp_path / "python"
    program.write_text(FAKE.format(python=quick_python(), factor=factor))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.mark.parametrize(("factor", "same"), [(1, True), (4, False)])
def test_an_engine_beside_transformers(model, tmp_path, factor, same):
    words = [*model, "--vllm", fake(tmp_path, factor)]
    told = run_command(SCRIPT, *words, PYTHON=quick_python()).stdout
    assert told.startswith("vLLM 0: ")
    worst = float(told.split()[-1])
    assert (worst < 1e-3) is same
    assert ("4 of 4 positions" in told) or not same


def test_refusals(model, tmp_path):
    def run(*words):
        return run_command(SCRIPT, *words, code=2, PYTHON=quick_python())

    refused_by(run(*model, "--vllm", "false"), "vLLM failed")
    refused_by(run(*model, "--llama-cpp", "x"), "--node-folder")
    refused_by(run(*model[:-1], 1000, "--vllm", "false"), "lower --tokens 1000")
