# SPDX-License-Identifier: Apache-2.0
"""Every placement: what holds for all of them, and each by its paper's definition."""

import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from e2_llm.config import E2Config
from e2_llm.methods import method_for
from e2_llm.placements import PLACEMENTS, Settings, parse_mixture
from e2_llm.placements.ends import TAIL
from e2_llm.sampler import fraction, random_words
from e2_llm.scales import DISTRIBUTIONS

words = st.integers(0, 2**64 - 1)
scales = st.one_of(st.floats(1, 64), st.integers(1, 64).map(float))


def placement(name, base=128, train=128, **options):
    return PLACEMENTS[name](Settings(base, train, **options))


def places(name, scale, seed, base=128, train=128, **options):
    """A window's places, from two words of a seed."""
    it = placement(name, base, train, **options)
    offset_word, word, *_ = random_words(seed, 0)
    return it.places(it.draw(scale, it.room(scale), offset_word, word), train).double()


@pytest.mark.parametrize("name", PLACEMENTS)
@settings(max_examples=60, deadline=None)
@given(scales, words, words, st.integers(1, 300), st.sampled_from([0.3, 1.0]))
def test_places_are_sorted_from_0_and_stay_in_the_extended_window(
    name, scale, offset_word, word, length, reach
):
    it = placement(name, 128, length)
    room = it.room(scale, reach)
    draw = it.draw(scale, room, offset_word, word)
    result = it.places(draw, length)
    assert result.shape == (length,)
    assert result.dtype == torch.float32
    assert result[0] == 0
    # Whole places differ by one at least; real ones may be as near as fp32 can tell.
    assert (result.diff() >= (0 if name == "float" else 1)).all()
    assert 0 <= draw.offset <= room
    assert result[-1] < length + draw.offset
    assert result[-1] < max(scale * 128, length)
    again = it.draw(scale, room, offset_word, word)
    assert (again, again.placement) == (draw, name)
    torch.testing.assert_close(it.places(again, length), result, rtol=0, atol=0)
    if room == 0:
        assert torch.equal(result, torch.arange(length, dtype=torch.float32))


@pytest.mark.parametrize("name", PLACEMENTS)
def test_shorter_windows_than_r_are_placed_as_well(name):
    it = placement(name, 128, 128)
    draw = it.draw(8.0, it.room(8.0), *random_words(5, 5)[:2])
    for length in range(1, 40):
        result = it.places(draw, length)
        assert result[0] == 0
        assert (result.diff() > 0).all()
        assert result[-1] < 8 * 128


def chunks(result):
    """Lengths of the continuous runs, and the gaps between them."""
    steps = result.diff()
    cuts = (steps != 1).nonzero().flatten() + 1
    gaps = steps[cuts - 1] - 1
    bounds = [0, *cuts.tolist(), len(result)]
    return np.diff(bounds), gaps


@pytest.mark.parametrize("skips", [1, 2, 4, 9])
def test_skips_are_up_to_n_continuous_chunks(skips):
    counts = Counter()
    for seed in range(400):
        lengths, gaps = chunks(places("skips", 16.0, seed, skips=skips))
        counts[len(gaps)] += 1
        assert lengths.min() >= 1
    assert max(counts) == skips
    # A gap can be 0, which joins two chunks; that is rare in a room of 15 windows.
    assert all(counts[count] > 400 / skips / 2 for count in range(1, skips + 1))


def test_the_largest_shift_is_that_of_k_uniform_ones():
    # t / (g L - R) is the largest of k uniform numbers, k uniform in 1..4: its mean is that of
    # k / (k + 1). The shift of every chunk before the last is uniform below it.
    it = placement("skips", 64, 64, skips=4)
    room, ratios, below_it = it.room(17.0), [], []
    for seed in range(6000):
        draw = it.draw(17.0, room, *random_words(seed, 0)[:2])
        ratios.append(draw.offset / room)
        result = it.places(draw, 64)
        shifts = (result - torch.arange(64.0)).unique()
        assert shifts[-1] == draw.offset
        if len(shifts) == 3:  # 0, one below, the largest
            below_it.append(float(shifts[1]) / draw.offset)
    mean = np.mean([k / (k + 1) for k in range(1, 5)])
    assert abs(np.mean(ratios) - mean) < 4 * np.std(ratios) / len(ratios) ** 0.5
    counts, _ = np.histogram(below_it, 10, (0, 1))
    expected = len(below_it) / 10
    assert ((counts - expected) ** 2 / expected).sum() < 27.9  # 9 degrees of freedom, 0.999


def test_one_skip_anywhere_has_uniform_cut_and_uniform_offset():
    cuts, moved = Counter(), Counter()
    for seed in range(12_000):
        result = places("skips", 3.0, seed, base=8, train=8, skips=1)  # t in 0..16, cut in 1..7
        lengths, gaps = chunks(result)
        moved[int(result[-1]) - 7] += 1
        if len(gaps):
            cuts[int(lengths[0])] += 1
    assert set(cuts) == set(range(1, 8))
    assert set(moved) == set(range(17))
    expected = 12_000 / 17
    assert sum((n - expected) ** 2 / expected for n in moved.values()) < 39.3  # 16 degrees, 0.999
    expected = sum(cuts.values()) / 7
    assert sum((n - expected) ** 2 / expected for n in cuts.values()) < 22.5  # 6 degrees, 0.999


def test_random_places_are_those_of_the_paper():
    # Section 3 of arXiv 2305.16843: a random set of the places, sorted. Every place alike often.
    counts = np.zeros(32)
    for seed in range(6000):
        it = placement("random", 8, 8)
        draw = it.draw(4.0, it.room(4.0), *random_words(seed, 0)[:2])
        counts[it._chosen(draw, 8, 32)] += 1
    expected = counts.sum() / 32
    assert ((counts - expected) ** 2 / expected).sum() < 61.1  # 31 degrees of freedom, 0.999


def test_random_with_ends_takes_both_ends():
    result = places("random-ends", 4.0, 3)
    assert (result[0], result[-1]) == (0, 4 * 128 - 1)


def test_float_places_are_uniform_reals():
    it = placement("float", 128, 128)
    drawn = np.concatenate(
        [it._chosen(it.draw(4.0, 384, 0, seed), 128, 512) for seed in range(100)]
    )
    counts, _ = np.histogram(drawn, 20, (0, 512))
    assert ((counts - 640) ** 2 / 640).sum() < 43.8  # 19 degrees of freedom, 0.999
    assert (drawn != drawn.round()).all()


def test_the_tail_ends_at_the_end():
    result = places("tail", 8.0, 1, train=100)
    assert torch.equal(result[:-TAIL], torch.arange(80.0).double())
    assert torch.equal(result[-TAIL:], torch.arange(8 * 128 - TAIL, 8 * 128.0).double())


def cream_of_the_paper(coin, uniform, place, window, factor):
    """Section 3 of arXiv 2406.07138 by scipy's Gaussian, with R = L = window."""
    from scipy.stats import norm

    head = window // 3 if coin == 0 else 4 * factor
    grid = np.linspace(2, 2 * factor, 1000)
    half_windows = math.floor(np.interp(uniform, norm.cdf(grid, 1 + factor, 3.0), grid))
    middle = window - 2 * head
    first = int(head + (middle - 1) * (half_windows / 2))
    last = int(half_windows / 2 * window) - head - 1
    end = first + int(place * (last - first + 1))
    return np.concatenate(
        [
            np.arange(head),
            np.arange(end - middle + 1, end + 1),
            np.arange(factor * window - head, factor * window),
        ]
    )


@pytest.mark.parametrize("factor", [2, 4, 16])
def test_cream_is_the_papers(factor):
    for seed in range(200):
        it = placement("cream", 512, 512)
        draw = it.draw(float(factor), it.room(factor), 0, seed)
        coin, half_windows, place, _ = random_words(seed, 0)
        expected = cream_of_the_paper(
            coin >> 63, fraction(half_windows), fraction(place), 512, factor
        )
        assert np.array_equal(it.places(draw, 512).numpy(), expected)


def test_mixtures_keep_their_shares():
    config = E2Config(base_window=64, train_window=64, placement="skips:0.7,random:0.2,tail:0.1")
    drawn = Counter(method_for(config).draw(3, index).placement for index in range(20_000))
    expected = {part.name: 20_000 * part.share for part in parse_mixture(config.placement)}
    assert sum((drawn[name] - n) ** 2 / n for name, n in expected.items()) < 13.8  # 2 degrees


def test_the_placement_leaves_the_scales_alone():
    def drawn(name):
        config = E2Config(base_window=64, train_window=64, placement=name)
        return [method_for(config).draw(9, index).scale for index in range(50)]

    assert all(drawn(name) == drawn("offset") for name in PLACEMENTS)


@pytest.mark.parametrize("name", PLACEMENTS)
def test_golden_places(name):
    # These must never change: a run of an earlier version has to resume with the same places.
    more = {"skips": 4} if name == "skips" else {}
    config = E2Config(base_window=16, train_window=8, placement=name, **more)
    method = method_for(config)
    draws = [method.draw(1234, index) for index in range(2)]
    places = [method.tokens(draw, 8, joints=(3, 5, 6)).round(decimals=2) for draw in draws]
    assert [each.tolist() for each in places] == GOLDEN[name]


GOLDEN = {
    "offset": [
        [0.0, 1.0, 2.0, 3.0, 132.0, 133.0, 134.0, 135.0],
        [0.0, 1.0, 2.0, 3.0, 40.0, 41.0, 42.0, 43.0],
    ],
    "plain": [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]],
    "skip": [
        [0.0, 129.0, 130.0, 131.0, 132.0, 133.0, 134.0, 135.0],
        [0.0, 1.0, 38.0, 39.0, 40.0, 41.0, 42.0, 43.0],
    ],
    "skips": [
        [0.0, 50.0, 121.0, 122.0, 123.0, 124.0, 125.0, 135.0],
        [0.0, 1.0, 2.0, 161.0, 182.0, 183.0, 186.0, 187.0],
    ],
    "random": [
        [0.0, 1.0, 17.0, 66.0, 93.0, 96.0, 97.0, 120.0],
        [0.0, 31.0, 36.0, 49.0, 55.0, 59.0, 64.0, 218.0],
    ],
    "random-ends": [
        [0.0, 50.0, 51.0, 67.0, 116.0, 146.0, 147.0, 207.0],
        [0.0, 31.0, 67.0, 80.0, 86.0, 95.0, 249.0, 255.0],
    ],
    "float": [
        [
            0.0,
            31.06999969482422,
            70.7699966430664,
            93.62000274658203,
            97.33999633789062,
            102.16999816894531,
            184.66000366210938,
            192.3699951171875,
        ],
        [
            0.0,
            87.41000366210938,
            103.58999633789062,
            156.6999969482422,
            157.58999633789062,
            196.0800018310547,
            201.6199951171875,
            223.39999389648438,
        ],
    ],
    "cream": [
        [0.0, 1.0, 62.0, 63.0, 64.0, 65.0, 206.0, 207.0],
        [0.0, 1.0, 102.0, 103.0, 104.0, 105.0, 254.0, 255.0],
    ],
    "tail": [
        [0.0, 201.0, 202.0, 203.0, 204.0, 205.0, 206.0, 207.0],
        [0.0, 249.0, 250.0, 251.0, 252.0, 253.0, 254.0, 255.0],
    ],
    **dict.fromkeys(
        ("sentences", "turns"),
        [
            [0.0, 1.0, 2.0, 41.0, 42.0, 103.0, 113.0, 114.0],
            [0.0, 1.0, 2.0, 115.0, 116.0, 185.0, 186.0, 187.0],
        ],
    ),
}


def test_a_curriculum_widens_the_range_with_the_samples():
    config = E2Config(
        base_window=64, train_window=64, position_method="randomized-yarn", factor=16.0,
        planned_samples=4000,
    )  # fmt: skip
    method = method_for(config)
    farthest = [
        max(
            float(method.tokens(method.draw(1, index), 64)[-1])
            for index in range(first, first + 50)
        )
        for first in (0, 950, 1000, 2000, 3000, 3950)
    ]
    reach = [share * 1024 for share in (0.5, 0.5, 0.625, 0.75, 1, 1)]
    assert all(0.9 * most < far < most for far, most in zip(farthest, reach, strict=True))
    assert method.rule.name == "yarn"
    # A run that is prolonged beyond its plan stays at the last stage.
    assert method.reach(10_000) == 1


def gene_scale(largest, generator):
    """GeNE's pmf, as its paper states it."""
    if largest <= 4:
        return generator.randint(1, largest)
    u = generator.random()
    return 1 if u < 0.25 else largest if u < 0.5 else generator.randint(2, largest - 1)


@pytest.mark.parametrize("largest", [1, 4, 5, 16])
def test_ends_heavy_is_genes(largest):
    generator = random.Random(1)
    draw = DISTRIBUTIONS["ends-heavy"].draw
    ours = Counter(draw(random_words(5, index)[0], 1.0, largest) for index in range(20_000))
    theirs = Counter(gene_scale(largest, generator) for _ in range(20_000))
    assert set(ours) == set(theirs) == set(range(1, largest + 1))
    # Two samples of the same distribution: sum of (a - b)^2 / (a + b).
    distance = sum((ours[g] - theirs[g]) ** 2 / (ours[g] + theirs[g]) for g in ours)
    assert distance < 37.7  # 15 degrees of freedom, 0.999
