# SPDX-License-Identifier: Apache-2.0
"""benchmarks/cpu_training.py: every variant trains on the same, and what is made of their times."""

import json

import numpy as np
import pytest

from benchmarks import cpu_training
from benchmarks.cpu.paced import PRODUCT
from benchmarks.cpu.table import WARM_UP, WITHOUT_E2, prices, sentence, summary, table
from benchmarks.cpu_training import VARIANTS, chosen, measure
from e2_common.errors import UserError
from tests.helpers.commands import refused_by, run_command
from tests.helpers.quick_python import quick_python

SCRIPT = "benchmarks/cpu_training.py"


def steps(*seconds):
    warm = [{"seconds": 99.0, "loss": 9.0}] * WARM_UP
    return warm + [{"seconds": each, "loss": 8.0} for each in seconds]


def test_ratios_are_of_one_round():
    """A machine that slows down from round to round does not change them."""
    answers = {"a": steps(1, 2, 4), "b": steps(2, 4, 8), "": steps(1, 1, 1)}
    first, second = summary(answers, "fp32", tokens=100, flops=PRODUCT**3 / 100, seed=0)
    assert (first["ratio"], second["ratio"]) == (1.0, 0.5)
    assert second["interval"] == [0.5, 0.5]
    assert second["tokens_per_second"] == 25
    assert second["share_of_peak"] == pytest.approx(25 / 200)
    assert second["losses"] == [9.0, 9.0, 8.0, 8.0, 8.0]
    assert "| b | fp32 | 25 | 0.50 | 0.50 … 0.50 | 12 % | 9.0000, 8.0000 |" in table(
        [first, second]
    )


def test_the_price_of_e2_is_that_of_its_engine():
    ours, bare = next(iter(WITHOUT_E2.items()))
    rows = [
        {"name": ours, "dtype": "bf16", "seconds": [1.01, 2.02, 3.03]},
        {"name": bare, "dtype": "bf16", "seconds": [1.0, 2.0, 3.0]},
        {"name": ours, "dtype": "fp32", "seconds": [1.0]},
    ]
    (price,) = prices(rows, seed=0)
    assert price["more"] == pytest.approx(0.01)
    assert np.allclose(price["interval"], 0.01)
    assert sentence(price).endswith("+1.0 % (+1.0 … +1.0 %)")
    assert {*WITHOUT_E2, *WITHOUT_E2.values()} < set(VARIANTS)


def test_refusals():
    refused_by(run_command(SCRIPT, "--steps", "0", code=2, PYTHON=quick_python()), "--steps 0")


def test_litgpt_is_measured_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(cpu_training, "find_spec", lambda _: None)
    assert set(VARIANTS) - set(chosen(None)) == {"litgpt, plain loop"}
    assert chosen(["trainer"]) == ["transformers, Trainer"]
    with pytest.raises(UserError, match="--variants litgpt: it is not installed"):
        chosen(["litgpt"])
    monkeypatch.setattr(cpu_training, "find_spec", lambda _: "there")
    assert chosen(None) == list(VARIANTS)
    assert chosen(["litgpt"]) == ["litgpt, plain loop"]


def test_a_process_that_ends_is_told(tmp_path):
    class Options:
        threads, steps, seed = 1, 1, 0

    name = "ours on transformers, E2"
    words = {"e2_hf": ["--model", str(tmp_path / "none")], "product": []}
    with pytest.raises(UserError, match=name):
        measure(tmp_path, [name], words, "fp32", Options())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_train_on_the_same(tmp_path):
    file = tmp_path / "speed.json"
    told = run_command(SCRIPT, "--preset", "tiny", "--steps", 2, "--output", file, timeout=800)
    result = json.loads(file.read_text())
    assert told.stdout.startswith(table(result["rows"]))
    assert len(result["rows"]) == 2 * len(chosen(None))
    losses = {(row["name"], row["dtype"]): row["losses"] for row in result["rows"]}
    true = losses["transformers, Trainer", "fp32"]
    for (name, dtype), found in losses.items():
        # E2 reads other positions, which an untrained model hardly sees.
        tolerance = {"fp32": 1e-5, "bf16": 1e-3}[dtype] + 1e-3 * ("E2" in name)
        if name.startswith("litgpt") and dtype == "bf16":  # its cosines and sines are too
            tolerance = 5e-3
        assert np.allclose(found, true, atol=tolerance, rtol=0), name
