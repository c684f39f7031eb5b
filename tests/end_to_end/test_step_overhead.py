# SPDX-License-Identifier: Apache-2.0
"""`make bench` at a tiny size: what it writes, not how long a step took."""

import json

import numpy as np
import pytest

from benchmarks.step_overhead import VARIANTS, bootstrap, by_variant, interleaved
from tests.helpers.commands import refused_by, run_command
from tests.helpers.quick_python import quick_python

TINY = "--hidden-size 64 --head-dim 32 --num-layers 1 --seq-length 32 --steps 2".split()


def benchmark(*arguments, code=0):
    return run_command("benchmarks/step_overhead.py", *arguments, code=code, PYTHON=quick_python())


def test_every_variant_is_timed_and_written(tmp_path):
    output = tmp_path / "overhead.json"
    # The last two are Megatron's own.
    run = benchmark(*TINY, "--output", str(output), "--global-batch-size", "4", "--bf16")
    result = json.loads(output.read_text())
    assert result["schema"] == "e2-llm/step-overhead/1"
    assert result["command"].startswith("python benchmarks/step_overhead.py --hidden-size 64 ")
    assert result["seed"] == 1234
    assert set(result["versions"]) == {"python", "torch", "megatron-core"}
    assert result["hardware"]["device"]
    assert result["hardware"]["ranks"] == 1
    assert result["model"] | {"hidden_size": 64, "heads": 2, "head_dim": 32} == result["model"]
    assert result["model"] | {"global_batch_size": 4, "dtype": "bfloat16"} == result["model"]
    assert [row["name"] for row in result["variants"]] == list(VARIANTS)
    for row in result["variants"]:
        low, high = row["ratio_interval"]
        assert 0 < low <= row["median_ratio"] <= high
        assert len(row["seconds"]) == 2
        assert min(row["seconds"]) <= row["median_seconds"] <= max(row["seconds"])
    assert result["variants"][0]["ratio_interval"] == [1, 1]
    lines = run.stdout.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {name}" for name in VARIANTS]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--steps 0", "error: --steps 0: must be at least 1"),
        ("--hidden-size 100", "error: --hidden-size 100: not a multiple of --head-dim 64"),
        ("--output .", "error: --output .: is a folder; name a file"),
    ],
)
def test_bad_input_is_one_line(arguments, line):
    assert f"error: {refused_by(benchmark(*arguments.split(), code=2), ())}" == line


def test_an_argument_that_megatron_does_not_know():
    refusal = refused_by(benchmark(*TINY, "--no-such-argument", code=2), ())
    line = "unrecognized arguments: --no-such-argument (--help lists every argument)"
    assert refusal == line


def test_every_round_holds_every_variant_once():
    order = interleaved(5, 20, seed=1)
    rounds = np.reshape(order, (20, 5))
    assert (np.sort(rounds, axis=1) == np.arange(5)).all()
    assert len({tuple(row) for row in rounds}) > 10


def test_times_go_to_the_variant_that_ran():
    order = interleaved(3, 8, seed=2)
    seconds = [10.0 * (index // 3) + variant for index, variant in enumerate(order)]
    expected = [[10.0 * number + variant for number in range(8)] for variant in range(3)]
    assert by_variant(seconds, order, 3).tolist() == expected


def test_the_interval_holds_the_median():
    values = np.random.default_rng(0).normal(1.01, 0.02, 400)
    low, high = bootstrap(values, seed=1)
    assert low < np.median(values) < high
    # The median of normal numbers scatters 1.2533 times as much as their mean.
    assert high - low == pytest.approx(2 * 1.2533 * 1.96 * 0.02 / 20, rel=0.3)
