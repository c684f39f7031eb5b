# SPDX-License-Identifier: Apache-2.0
"""Every position method by its definition, and the scale distributions by theirs."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from e2_common.errors import UserError
from e2_llm.config import E2Config
from e2_llm.frequencies import RULES
from e2_llm.methods import PositionMethod, method_for
from e2_llm.registry import METHODS, register
from e2_llm.sampler import Draw, random_subset
from tests.helpers.rules import settings_of

seeds = st.integers(0, 2**63 - 1)
indices = st.integers(0, 2**40)


def config(method="e2", **options):
    windows = {"base_window": 128, "train_window": 64}
    return E2Config(position_method=method, **(windows | options))


def fixed(method, **options):
    return config(method, factor=4.0, **options)


def angles(method, draw, length=64, dim=32, theta=10000.0):
    """Angles [length, dim / 2] and the attention factor."""
    inverse, factor = method.frequencies(draw, dim, theta)
    return method.positions(draw, length)[:, None] * inverse, factor


def test_every_method_says_what_it_is():
    fields = set(E2Config.__dataclass_fields__)
    for name, method in METHODS.items():
        assert method.name == name
        assert method.title
        assert method.help
        assert fields.issuperset(method.reads)


def test_a_name_belongs_to_one_class():
    class Other(PositionMethod):
        name = "pose"

    with pytest.raises(ValueError, match="pose"):
        register(Other)
    assert register(METHODS["pose"]) is METHODS["pose"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scale", [1.0, 4.0, 16.0])
def test_what_e2_trains_at_t_0_is_what_transformers_serves(rule, scale):
    method = method_for(config(frequencies=rule, **settings_of(rule)))
    ours, factor = angles(method, Draw(scale, 0))
    rope = method.rule.to_hf(32, 10000.0, scale, 128)
    served = LlamaConfig(
        hidden_size=64, num_attention_heads=2, max_position_embeddings=2048, rope_parameters=rope
    )
    cos, sin = LlamaRotaryEmbedding(served)(torch.zeros(1), torch.arange(64)[None])
    torch.testing.assert_close(ours.cos() * factor, cos[0, :, :16], atol=2e-5, rtol=0)
    torch.testing.assert_close(ours.sin() * factor, sin[0, :, :16], atol=2e-5, rtol=0)


# A method of a rule's name may be more than the rule: GeNE draws its scale.
FIXED = [name for name in RULES if name in METHODS and not METHODS[name].draws()]


@pytest.mark.parametrize("rule", FIXED)
def test_e2_with_any_rule_is_the_fixed_method_at_that_factor(rule):
    settings = settings_of(rule)
    e2, plain = (
        method_for(config(frequencies=rule, **settings)),
        method_for(fixed(rule, **settings)),
    )
    ours, ours_factor = angles(e2, Draw(4.0, 0))
    theirs, theirs_factor = angles(plain, plain.draw(1, 2))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert ours_factor == theirs_factor


@settings(max_examples=100, deadline=None)
@given(seeds, indices, st.sampled_from(["ntk", "yarn"]))
def test_e2_offset_moves_all_but_the_first_tokens(seed, index, rule):
    method = method_for(config(frequencies=rule))
    draw = method.draw(seed, index)
    expected = torch.arange(64.0)
    expected[4:] += draw.offset
    assert torch.equal(method.positions(draw, 64), expected)
    assert expected[-1] < draw.scale * 128


@settings(max_examples=200, deadline=None)
@given(seeds, indices, st.integers(2, 64))
def test_pose_is_two_chunks_with_a_skip(seed, index, length):
    method = method_for(fixed("pose", train_window=length))
    draw = method.draw(seed, index)
    steps = method.positions(draw, length).diff()
    assert method.positions(draw, length)[0] == 0
    assert (steps != 1).sum() <= 1
    jump = int(steps.max())
    assert 1 <= jump <= 4 * 128 - length + 1
    if jump > 1:
        assert int(steps.argmax()) + 1 <= (length + 1) // 2
    assert method.positions(draw, length)[-1] <= 4 * 128 - 1


def test_pose_reaches_every_skip_and_cut():
    method = method_for(fixed("pose", base_window=8, train_window=8))  # skips 0..24, cuts 1..4
    draws = [method.draw(3, index) for index in range(4000)]
    assert {draw.offset for draw in draws} == set(range(25))
    cuts = Counter(int(method.positions(d, 8).diff().argmax()) + 1 for d in draws if d.offset)
    assert set(cuts) == {1, 2, 3, 4}
    assert min(cuts.values()) > 850


@settings(max_examples=50, deadline=None)
@given(seeds, indices)
def test_randpos_is_sorted_and_without_repetition(seed, index):
    method = method_for(fixed("randpos"))
    positions = method.positions(method.draw(seed, index), 64)
    assert (positions.diff() >= 1).all()
    assert positions.min() >= 0
    assert positions.max() < 4 * 128
    assert torch.equal(positions, positions.round())


def test_random_subset_is_uniform():
    counts = np.zeros(12)
    for word in range(6000):
        counts[random_subset(word, 4, 12)] += 1
    assert ((counts - 2000) ** 2 / 2000).sum() < 31.3  # 11 degrees of freedom, 0.999


@pytest.mark.parametrize("name", ["pose", "randpos"])
def test_validation_has_plain_positions(name):
    method = method_for(fixed(name))
    assert torch.equal(method.positions(method.validation_draw(), 64), torch.arange(64.0))


@pytest.mark.parametrize("train", [64, 128, 129, 256, 500, 640])
@pytest.mark.parametrize("name", ["gene", "clex"])
def test_windows_longer_than_l_fit_at_every_scale(name, train):
    made = config(name, train_window=train, max_scale=20)
    method = method_for(made)
    several = math.ceil(train / 128)
    scales = set()
    for index in range(300):
        draw = method.draw(5, index)
        tokens = method.tokens(draw, train)
        scales.add(draw.scale)
        assert tokens[0] == 0
        assert (tokens.diff() > 0).all()
        if train % 128 == 0 or name == "gene":
            assert tokens[-1] < draw.scale * 128
            assert not made.warnings()
    if name == "gene":  # multiples of what a window needs
        expected = range(several, 21, several)
    else:
        expected = range(1, 21)
        dense = max(1, train // 128) * method.tokens(method.draw(5, 0), train)
        torch.testing.assert_close(dense, dense.round())
    assert scales == set(expected)
    assert method.largest_scale == max(expected)
    # Validation has plain positions at a scale that holds them.
    assert torch.equal(method.tokens(method.validation_draw(), train), torch.arange(float(train)))
    assert method.validation_draw().scale == several


@pytest.mark.parametrize("name", ["gene", "clex"])
def test_a_window_that_no_scale_holds_is_refused(name):
    with pytest.raises(UserError, match="--seq-length 257 is more than"):
        config(name, train_window=257, max_scale=2)
    config(name, train_window=256, max_scale=2)


def draw_scales(count=100_000, **options):
    method = method_for(config(**options))
    return np.array([method.draw(11, index).scale for index in range(count)])


def chi_square(values, edges):
    """Chi-square of real values against equally likely bins."""
    counts, _ = np.histogram(values, edges)
    expected = len(values) / (len(edges) - 1)
    assert counts.sum() == len(values)
    return ((counts - expected) ** 2 / expected).sum()


def test_uniform_scales():
    scales = draw_scales(scale_distribution="uniform", min_scale=2.0, max_scale=12)
    assert chi_square(scales, np.linspace(2, 12, 21)) < 43.8  # 19 degrees of freedom, 0.999


def test_log_uniform_scales():
    scales = draw_scales(scale_distribution="log-uniform", max_scale=16)
    assert chi_square(np.log(scales), np.linspace(0, math.log(16), 21)) < 43.8


def test_integer_scales_from_a_smallest_one():
    scales = draw_scales(min_scale=1.5, max_scale=5)
    assert set(scales) == {2.0, 3.0, 4.0, 5.0}


@pytest.mark.parametrize("distribution", ["uniform-integer", "log-uniform"])
def test_base_share(distribution):
    scales = draw_scales(base_share=0.3, max_scale=1000, scale_distribution=distribution)
    share = (scales == 1).mean()
    # Integers meet 1 by themselves once in a thousand.
    assert 0.3 - 0.015 < share < 0.3 + 0.017


def test_scales_are_rounded_so_that_machines_agree():
    scales = draw_scales(200, scale_distribution="log-uniform")
    assert all(scale == round(scale, 6) for scale in scales)
