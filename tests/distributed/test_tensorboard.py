# SPDX-License-Identifier: Apache-2.0
"""The statistics of the draws in TensorBoard, read back from real runs."""

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
    ],
}


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
    results = run_world(4, runs, folder, timeout=250)
    events = {}
    for name in results:
        events[name] = EventAccumulator(str(folder / name), {"scalars": 0, "histograms": 0})
        events[name].Reload()
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


def test_console_line_and_other_methods_are_left_alone(world):
    results, events = world
    assert set(results["dp4"]["log"][0]) == {"lm loss", "e2 scale", "e2 max position"}
    tags = events["none"].Tags()
    assert "lm loss" in tags["scalars"]
    assert not [tag for tag in tags["scalars"] if tag.startswith(PREFIX)]
    assert not tags["histograms"]
