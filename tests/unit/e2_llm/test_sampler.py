# SPDX-License-Identifier: Apache-2.0
"""Draws: the stream against Philox4x64-10 itself, the distribution, and the keys."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2_llm.batch_draws import iteration_draws, micro_batch_draws
from e2_llm.config import E2Config
from e2_llm.methods import method_for
from e2_llm.sampler import Draw, below, fraction, random_words, sample_indices

CONFIG = E2Config(base_window=4096, train_window=4096, max_scale=20)
MASK = 2**64 - 1


def training_draw(config, seed, index):
    return method_for(config).draw(seed, index)


def philox4x64_10(counter, key):
    """Philox4x64-10 from its paper (Salmon et al., SC'11, section 4.3), in plain integers."""
    x, k = list(counter), list(key)
    for _ in range(10):
        first = 0xD2E7470EE14C6C93 * x[0]
        second = 0xCA5A826395121157 * x[2]
        x = [
            (second >> 64) ^ x[1] ^ k[0],
            second & MASK,
            (first >> 64) ^ x[3] ^ k[1],
            first & MASK,
        ]
        k = [(k[0] + 0x9E3779B97F4A7C15) & MASK, (k[1] + 0xBB67AE8584CAA73B) & MASK]
    return x


@given(st.integers(0, MASK), st.integers(0, MASK))
def test_words_are_philox(seed, index):
    # numpy counts up before it generates: the first block of counter c is that of c + 1.
    block = philox4x64_10([1, index, 0, 0], [seed, 0xE2_115])
    assert list(random_words(seed, index)) == block


def test_known_answer_of_the_reference():
    # Random123's kat_vectors: philox4x64, 10 rounds, all zero.
    assert philox4x64_10([0] * 4, [0] * 2) == [
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    ]


@pytest.mark.parametrize("distribution", ["uniform-integer", "uniform", "log-uniform"])
def test_golden_draws(distribution):
    # These must never change: a run of an earlier version, or one with another numpy, has to
    # resume with the same draws. Checked with numpy 1.26.4 and 2.x.
    config = replace(CONFIG, scale_distribution=distribution)
    drawn = [training_draw(config, 1234, index)[:2] for index in range(len(GOLDEN[distribution]))]
    assert drawn == GOLDEN[distribution]


GOLDEN = {
    "uniform-integer": [(13, 31451), (16, 8918), (15, 39307), (19, 15123), (8, 633), (14, 27885)],
    "uniform": [(13.322511, 32296), (16.007911, 8922), (15.146254, 39718)],
    "log-uniform": [(6.978903, 15670), (10.657875, 5742), (9.303974, 23315)],
}


def test_scales_are_uniform_over_the_integers():
    draws = [training_draw(CONFIG, 7, index).scale for index in range(100_000)]
    counts = Counter(draws)
    assert set(counts) == set(range(1, 21))
    # Chi-square with 19 degrees of freedom: 43.8 is the 0.999 quantile.
    assert sum((count - 5000) ** 2 / 5000 for count in counts.values()) < 43.8


def test_offsets_are_uniform_up_to_and_including_the_largest():
    config = E2Config(base_window=8, train_window=8, fixed_scale=2.0)
    counts = Counter(training_draw(config, 3, index).offset for index in range(100_000))
    assert set(counts) == set(range(9))  # {0..g L - R}
    expected = 100_000 / 9
    # 8 degrees of freedom
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 26.1


@given(st.integers(0, MASK))
def test_fraction_is_below_one(word):
    assert 0 <= fraction(word) < 1


@given(st.integers(0, MASK), st.integers(1, 10**6))
def test_below_stays_below(word, bound):
    assert 0 <= below(word, bound) < bound


def test_ablations():
    fixed = E2Config(base_window=4096, train_window=4096, fixed_scale=2.0)
    assert {training_draw(fixed, 1, index).scale for index in range(50)} == {2.0}
    assert len({training_draw(fixed, 1, index).offset for index in range(50)}) > 40
    still = E2Config(base_window=4096, train_window=4096, no_offset=True)
    assert {training_draw(still, 1, index).offset for index in range(50)} == {0}
    assert len({training_draw(still, 1, index).scale for index in range(50)}) > 10


def test_no_room_no_offset():
    config = E2Config(base_window=4096, train_window=8192, max_scale=2)
    assert {training_draw(config, 1, index).offset for index in range(50)} == {0}


@pytest.mark.parametrize(
    ("method", "options", "scale"),
    [("none", {}, 1.0), ("linear", {"factor": 4.0}, 4.0)],
)
def test_other_methods_draw_nothing(method, options, scale):
    config = E2Config(base_window=64, train_window=64, position_method=method, **options)
    assert {training_draw(config, 1, index) for index in range(20)} == {Draw(scale, 0)}
    assert method_for(config).validation_draw() == Draw(scale, 0)


def test_validation_has_no_offset_and_the_scale_that_fits():
    assert method_for(CONFIG).validation_draw() == Draw(1.0, 0)
    longer = E2Config(base_window=4096, train_window=8192, max_scale=20)
    assert method_for(longer).validation_draw() == Draw(2.0, 0)


@pytest.mark.parametrize(("dp_size", "micro_batch_size"), [(1, 1), (2, 1), (4, 2), (2, 4)])
def test_indices_cover_the_batch_once_as_megatron_hands_it_out(dp_size, micro_batch_size):
    from megatron.training.datasets.data_samplers import MegatronPretrainingSampler

    batch, consumed = 16, 48
    for rank in range(dp_size):
        sampler = MegatronPretrainingSampler(
            total_samples=1000,
            consumed_samples=consumed,
            micro_batch_size=micro_batch_size,
            data_parallel_rank=rank,
            data_parallel_size=dp_size,
        )
        theirs = iter(sampler)
        for micro_batch in range(batch // (dp_size * micro_batch_size)):
            ours = sample_indices(consumed, micro_batch, micro_batch_size, rank, dp_size)
            assert list(ours) == next(theirs)


def test_what_shares_a_draw():
    indices = range(8, 12)
    one = E2Config(base_window=64, train_window=64)
    assert micro_batch_draws(one, 1, indices, 0) == [training_draw(one, 1, 8)]
    each = E2Config(base_window=64, train_window=64, draw_per="sample")
    assert micro_batch_draws(each, 1, indices, 0) == [training_draw(each, 1, i) for i in indices]
    step = E2Config(base_window=64, train_window=64, draw_per="iteration")
    assert micro_batch_draws(step, 1, indices, 0) == [training_draw(step, 1, 0)]


@pytest.mark.parametrize("unit", ["microbatch", "sample", "iteration"])
def test_iteration_draws_are_those_of_all_ranks(unit):
    config = E2Config(base_window=64, train_window=64, draw_per=unit)
    together = iteration_draws(config, 1, 32, 16, 2)
    apart = []
    for rank in range(4):
        for micro_batch in range(2):
            indices = sample_indices(32, micro_batch, 2, rank, 4)
            apart += micro_batch_draws(config, 1, indices, 32)
    assert sorted(together) == sorted(apart)
