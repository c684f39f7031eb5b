# SPDX-License-Identifier: Apache-2.0
"""The folder of a run, with a result file of every kind."""

import json

import pytest
from torch.utils.tensorboard import SummaryWriter

from tests.tools.reporting.results import attention, grid, perplexity, ruler


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
