# SPDX-License-Identifier: Apache-2.0
"""The statistics of the draws in TensorBoard and in Weights & Biases, read back from real runs."""

import json
import os
from bisect import bisect_right
from itertools import pairwise

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.distributed.corpus import make_corpus
from tests.distributed.layouts import LAYOUTS
from tests.distributed.world import LOADING_ALONE, TINY_MODEL, TINY_TRAINING, run_world

pytestmark = pytest.mark.timeout(300)  # the world runs within the first test's set-up
STEPS = 6
EDGES = [1, 2, 4, 8, 16, 20]
PREFIX = "lm loss by scale/g "
# Draws of every kind; a last stage without layers, which knows the number of no micro-batch.
RUNS = {
    "dp4": ["--tensorboard-log-interval", "1"],
    "vpp": [
        *(*LAYOUTS["VPP"], *LAYOUTS["TP2+SP"]),
        *("--tensorboard-log-interval", "4"),
    ],
    "sample": [
        *("--pipeline-model-parallel-size", "2", "--pipeline-model-parallel-layout", "Etttt|L"),
        *("--e2-draw-per", "sample", "--micro-batch-size", "2"),
        *("--tensorboard-log-interval", "4"),
    ],
    "iteration": [
        *(*LAYOUTS["TP2×PP2"], "--e2-draw-per", "iteration"),
        *("--tensorboard-log-interval", "100"),
        *("--eval-iters", "1", "--e2-validation-windows", "64", "128"),
    ],
}
WITH_WANDB = "iteration"  # the last one: Megatron keeps the writer for the rest of the process
# Stands in the place of the package, and keeps what it is told.
WANDB = """
import json, os
from types import SimpleNamespace

config = SimpleNamespace(update=lambda values: None)

class Histogram:
    def __init__(self, np_histogram):
        self.told = [array.tolist() for array in np_histogram]

def init(dir, name, project, config, **others):
    global file
    file = open(os.path.join(dir, f"{project}-{name}.jsonl"), "w")

def log(values, step=None):
    values = {k: v.told if isinstance(v, Histogram) else float(v) for k, v in values.items()}
    print(json.dumps([step, values]), file=file, flush=True)

def finish():
    file.close()
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Name -> (result of the worker, what TensorBoard has)."""
    folder = tmp_path_factory.mktemp("tensorboard")
    start = ["--save", str(folder / "start"), "--save-interval", "1"]
    common = [*TINY_MODEL, *TINY_TRAINING, *LOADING_ALONE, *make_corpus(folder)]
    none = [*common, "--position-method", "none", "--train-iters", "1"]
    tune = ["--finetune", "--load", str(folder / "start"), "--no-load-optim", "--no-load-rng"]
    tune += ["--e2-max-scale", "20", "--train-iters", str(STEPS)]
    runs = [("none", [*none, *start, "--tensorboard-dir", str(folder / "none")])]
    for name, flags in RUNS.items():
        runs.append((name, [*common, *tune, *flags, "--tensorboard-dir", str(folder / name)]))
    (folder / "stub").mkdir()
    (folder / "stub" / "wandb.py").write_text(WANDB)
    assert runs[-1][0] == WITH_WANDB
    runs[-1][1].extend(["--wandb-project", "e2", "--wandb-exp-name", WITH_WANDB])
    runs[-1][1].extend(["--wandb-save-dir", str(folder / "wandb")])
    path = os.pathsep.join([str(folder / "stub"), os.environ["PYTHONPATH"]])
    results = run_world(4, runs, folder, timeout=250, PYTHONPATH=path)
    events = {}
    for name in results:
        events[name] = EventAccumulator(str(folder / name), {"scalars": 0, "histograms": 0})
        events[name].Reload()
    with (folder / "wandb" / f"e2-{WITH_WANDB}.jsonl").open() as lines:
        events["wandb"] = [json.loads(line) for line in lines]
    return results, events


def bucket_losses(events):
    """Step -> bucket -> loss."""
    losses = {}
    for low, high in pairwise(EDGES):
        tag = f"{PREFIX}{low} to {high}"
        if tag in events.Tags()["scalars"]:
            for event in events.Scalars(tag):
                losses.setdefault(event.step, {})[low] = event.value
    return dict(sorted(losses.items()))


@pytest.fixture(scope="module")
def draws(world):
    """Step -> the (scale, offset) that the four data-parallel ranks trained with."""
    drawn = {step: [] for step in range(1, STEPS + 1)}
    for consumed, (draw,) in sum(world[0]["dp4"]["draws"], []):
        drawn[consumed // 8 + 1].append(tuple(draw[:2]))
    assert {len(batch) for batch in drawn.values()} == {8}
    return drawn


def bucket_of(scale):
    return EDGES[min(bisect_right(EDGES, scale), len(EDGES) - 1) - 1]


def counts_of(batch):
    buckets = [bucket_of(scale) for scale, _ in batch]
    return {bucket: buckets.count(bucket) for bucket in sorted(set(buckets))}


def test_buckets_average_to_the_loss_of_each_step(world, draws):
    results, events = world
    losses = bucket_losses(events["dp4"])
    assert list(losses) == list(range(1, STEPS + 1))
    for step, by_bucket in losses.items():
        counts = counts_of(draws[step])
        assert list(by_bucket) == list(counts)  # a bucket that nobody drew has no point
        mean = sum(by_bucket[bucket] * counts[bucket] for bucket in counts) / 8
        assert mean == pytest.approx(results["dp4"]["losses"][step - 1], rel=1e-5)
    assert any(len(by_bucket) < len(EDGES) - 1 for by_bucket in losses.values())


@pytest.mark.parametrize("name", ["vpp", "sample"])
def test_buckets_agree_across_layouts_and_intervals(world, draws, name):
    # Draws for each of the samples of a micro-batch are those of micro-batches of one sample.
    _, events = world
    single, merged = bucket_losses(events["dp4"]), bucket_losses(events[name])
    assert list(merged) == [4, STEPS]  # the last interval is shorter
    for last, steps in ((4, range(1, 5)), (STEPS, range(5, STEPS + 1))):
        counts = {step: counts_of(draws[step]) for step in steps}
        expected = {}
        for bucket in sorted(set().union(*counts.values())):
            total = sum(counts[step].get(bucket, 0) * single[step].get(bucket, 0) for step in steps)
            expected[bucket] = total / sum(counts[step].get(bucket, 0) for step in steps)
        assert merged[last] == pytest.approx(expected, rel=1e-4)


def test_a_draw_for_the_batch_puts_its_loss_into_one_bucket(world):
    results, events = world
    scales = [draws[0][0] for _, draws in results["iteration"]["draws"][0][::8]]
    of_buckets = {}
    for scale, loss in zip(scales, results["iteration"]["losses"], strict=True):
        of_buckets.setdefault(bucket_of(scale), []).append(loss)
    assert len(of_buckets) > 1
    expected = {bucket: np.mean(losses) for bucket, losses in of_buckets.items()}
    # The interval is longer than the run: only its end is logged.
    assert bucket_losses(events["iteration"]) == {STEPS: pytest.approx(expected, rel=1e-5)}


@pytest.mark.parametrize(
    ("name", "intervals"), [("dp4", range(1, STEPS + 1)), ("vpp", [4, 6]), ("sample", [4, 6])]
)
def test_histograms_hold_the_draws(world, draws, name, intervals):
    _, events = world
    for column, tag in enumerate(("e2 draws/scale", "e2 draws/offset")):
        shown = events[name].Histograms(tag)
        assert [event.step for event in shown] == list(intervals)
        first = 1
        for event in shown:
            batches = [draws[step] for step in range(first, event.step + 1)]
            values = np.array([draw[column] for batch in batches for draw in batch])
            histogram = event.histogram_value
            assert histogram.num == len(values)
            assert sum(histogram.bucket) == len(values)
            assert histogram.min == values.min()
            assert histogram.max == values.max()
            limits = np.array([-np.inf, *histogram.bucket_limit])
            np.testing.assert_array_equal(np.histogram(values, limits)[0], histogram.bucket)
            first = event.step + 1


def test_weights_and_biases_are_told_the_same(world):
    _, events = world
    told = {
        (name, step): value for step, values in events["wandb"] for name, value in values.items()
    }
    tags = events[WITH_WANDB].Tags()
    ours = [tag for tag in tags["scalars"] if tag.startswith((PREFIX, "lm loss validation/window"))]
    assert {"lm loss validation/window 64", "lm loss validation/window 128"} < set(ours)
    for tag in ours:
        for event in events[WITH_WANDB].Scalars(tag):
            assert told[tag, event.step] == pytest.approx(event.value, rel=1e-6)
    assert {"e2 draws/scale", "e2 draws/offset"} <= set(tags["histograms"])
    for tag in tags["histograms"]:
        [event] = events[WITH_WANDB].Histograms(tag)
        counts, edges = told[tag, event.step]
        assert sum(counts) == event.histogram_value.num
        assert edges[0] <= event.histogram_value.min
    steps = [step for step, _ in events["wandb"]]
    assert steps == sorted(steps)  # it drops what comes late


def test_console_line_and_other_methods_are_left_alone(world):
    results, events = world
    assert set(results["dp4"]["log"][0]) == {"lm loss", "e2 scale", "e2 max position"}
    tags = events["none"].Tags()
    assert "lm loss" in tags["scalars"]
    assert not [tag for tag in tags["scalars"] if tag.startswith(PREFIX)]
    assert not tags["histograms"]
