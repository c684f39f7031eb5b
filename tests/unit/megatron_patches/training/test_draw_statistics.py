# SPDX-License-Identifier: Apache-2.0
"""Buckets, bins and sums of the draw statistics; the runs are in tests/distributed."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from e2_llm.batch_draws import iteration_draws
from e2_llm.config import E2Config
from e2_llm.sampler import Draw
from megatron_patches.training.draw_statistics import (
    MAX_BINS,
    DrawStatistics,
    integer_bins,
    is_logged,
    scale_edges,
)


def config(**values):
    return E2Config(base_window=64, train_window=64, **values)


class Writer:
    """Keeps what a SummaryWriter would write."""

    def __init__(self):
        self.scalars, self.histograms = {}, {}

    def add_scalar(self, name, value, step):
        self.scalars[name, step] = value

    def add_histogram(self, name, values, step, bins):
        self.histograms[name, step] = np.histogram(values, bins)[0], values


def written(statistics, step=1):
    writer = Writer()
    statistics.write(writer, step)
    return writer


@pytest.mark.parametrize(
    ("largest", "edges"),
    [
        (1, [1, 2]),
        (2, [1, 2]),
        (3, [1, 2, 3]),
        (8, [1, 2, 4, 8]),
        (20, [1, 2, 4, 8, 16, 20]),
        (2.5, [1, 2, 2.5]),
    ],
)
def test_edges_are_powers_of_two_up_to_the_largest_scale(largest, edges):
    assert scale_edges(largest) == edges


def test_names_and_buckets():
    statistics = DrawStatistics(config(max_scale=20))
    assert statistics.names == [
        f"lm loss by scale/g {edges}"
        for edges in ("1 to 2", "2 to 4", "4 to 8", "8 to 16", "16 to 20")
    ]
    buckets = {1: 0, 1.999999: 0, 2: 1, 3: 1, 4: 2, 7.5: 2, 8: 3, 15: 3, 16: 4, 19: 4, 20: 4}
    assert {scale: statistics.bucket(scale) for scale in buckets} == buckets


@pytest.mark.parametrize("values", [{"max_scale": 1}, {"max_scale": 16}, {"fixed_scale": 40.0}])
def test_every_scale_has_a_bucket(values):
    statistics = DrawStatistics(config(**values))
    draws = iteration_draws(config(**values), 1, 0, 200, 1)
    assert {statistics.bucket(draw.scale) for draw in draws} <= set(range(len(statistics.names)))
    statistics.add_draws(draws)
    counts = [counts.sum() for counts, _ in written(statistics).histograms.values()]
    assert counts == [200, 200]  # nothing beyond the bins


@given(st.integers(-5, 5), st.integers(0, 100_000))
def test_bins_hold_equally_many_integers(first, extra):
    bins = integer_bins(first, first + extra)
    assert 1 <= len(bins) - 1 <= MAX_BINS
    assert bins[0] < first
    assert bins[-2] < first + extra < bins[-1]
    assert len(set(np.diff(bins))) == 1
    if extra < MAX_BINS:
        assert np.diff(bins)[0] == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_are_averaged_over_the_tokens_of_a_bucket(dtype):
    statistics = DrawStatistics(config(max_scale=8))
    losses = torch.tensor([[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]], dtype=dtype, requires_grad=True)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    statistics.add_losses([Draw(2.0, 5), Draw(8.0, 0)], losses, mask)  # a draw for each sample
    statistics.add_losses([Draw(3.0, 0)], losses, mask)  # one for both
    expected = {
        ("lm loss by scale/g 2 to 4", 7): (1 + 2 + 3 + 1 + 2 + 3 + 5) / 7,
        ("lm loss by scale/g 4 to 8", 7): 5.0,
    }
    assert written(statistics, 7).scalars == pytest.approx(expected)
    assert not statistics.sums.requires_grad


def test_a_masked_or_forgotten_bucket_writes_nothing():
    statistics = DrawStatistics(config(max_scale=8))
    assert not written(statistics).scalars
    statistics.add_losses([Draw(1.0, 0)], torch.ones(1, 3), torch.zeros(1, 3))
    assert not written(statistics).scalars
    statistics.add_losses([Draw(1.0, 0)], torch.ones(1, 3), torch.ones(1, 3))
    statistics.add_draws([Draw(1.0, 0)])
    assert len(written(statistics).scalars) == 1
    statistics.reset()
    assert not written(statistics).scalars
    assert not written(statistics).histograms


def test_histograms_count_every_draw():
    statistics = DrawStatistics(config(max_scale=4))
    for scale, offset in [(1, 0), (3, 128), (3, 5), (4, 192)]:
        statistics.add_draws([Draw(float(scale), offset)])
    histograms = written(statistics).histograms
    assert histograms["e2 draws/scale", 1][0].tolist() == [1, 0, 2, 1]
    assert histograms["e2 draws/offset", 1][1].tolist() == [0, 128, 5, 192]


def test_many_tokens_are_counted():
    statistics = DrawStatistics(config())
    statistics.add_losses([Draw(1.0, 0)], torch.ones(1, 1), torch.ones(1, 1))
    statistics.sums[0] = torch.tensor([2.0**24, 2.0**24])
    statistics.add_losses([Draw(1.0, 0)], torch.ones(1, 1), torch.ones(1, 1))
    assert statistics.sums[0].tolist() == [2**24 + 1, 2**24 + 1]


def test_logged_at_the_interval_and_at_the_end():
    args = Namespace(tensorboard_log_interval=4, train_iters=10, exit_interval=None)
    assert [step for step in range(1, 11) if is_logged(args, step)] == [4, 8, 10]
    args.exit_interval = 6
    assert [step for step in range(1, 11) if is_logged(args, step)] == [4, 6, 8, 10]
