# SPDX-License-Identifier: Apache-2.0
"""Frequencies against transformers' ROPE_INIT_FUNCTIONS."""

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from e2_llm.frequencies import RULES, rope
from tests.helpers.rules import rule

GRID = [
    (dim, theta, factor, window)
    for dim in (32, 64, 128)
    for theta in (10000.0, 500000.0)
    for factor in (1.0, 2.0, 3.7, 16.0, 64.0)
    for window in (128, 4096, 8192)
]


def theirs(rope_type, dim, theta, factor, window, **parameters):
    config = LlamaConfig(
        hidden_size=dim * 2,
        num_attention_heads=2,
        head_dim=dim,
        max_position_embeddings=parameters.pop("max_position_embeddings", window),
        rope_parameters={
            "rope_type": rope_type,
            "factor": factor,
            "rope_theta": theta,
            **parameters,
        },
    )
    return ROPE_INIT_FUNCTIONS[rope_type](config, "cpu")


def assert_same(ours, theirs, *case, rtol=1e-6):
    torch.testing.assert_close(
        ours,
        theirs,
        rtol=rtol,
        atol=0,
        msg=lambda told: f"dim, theta, factor, window {case}: {told}",
    )


@pytest.mark.parametrize("name", ["linear", "yarn", "llama3"])
def test_equal_to_transformers(name):
    for case in GRID:
        window = case[-1]
        extra = {
            "linear": {},
            "yarn": {"original_max_position_embeddings": window},
            "llama3": {
                "original_max_position_embeddings": window,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
            },
        }[name]
        inverse, factor_of_scores = theirs(name, *case, **extra)
        ours = RULES[name].frequencies(*case)
        assert_same(ours.inverse, inverse, *case)
        assert ours.attention_factor == pytest.approx(factor_of_scores, rel=1e-12), case


def test_ntk_is_a_changed_base():
    for case in GRID:
        dim, theta, factor, _ = case
        # Served as plain RoPE with another theta.
        config = LlamaConfig(
            hidden_size=dim * 2,
            num_attention_heads=2,
            head_dim=dim,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": RULES["ntk"].theta(dim, theta, factor),
            },
        )
        ours = RULES["ntk"].frequencies(*case)
        assert_same(ours.inverse, LlamaRotaryEmbedding(config).inv_freq, *case)
        # Its lowest frequency is that of linear interpolation, its highest the original.
        assert ours.inverse[0] == 1, case
        assert_same(ours.inverse[-1], rope(dim, theta)[-1] / factor, *case, rtol=1e-5)


def test_ntk_is_dynamic_ntk_at_its_longest():
    # transformers' dynamic NTK at sequence length s takes the base that grows with
    # factor * s / L - (factor - 1); with factor 1 that is s / L: our g.
    for case in GRID:
        dim, theta, factor, window = case
        config = LlamaConfig(
            hidden_size=dim * 2,
            num_attention_heads=2,
            head_dim=dim,
            max_position_embeddings=window,
            rope_parameters={"rope_type": "dynamic", "factor": 1.0, "rope_theta": theta},
        )
        length = math.ceil(factor * window)
        inverse, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, "cpu", seq_len=length)
        ours = RULES["ntk"].frequencies(dim, theta, length / window, window)
        assert_same(ours.inverse, inverse, *case)


@pytest.mark.parametrize("name", RULES)
def test_scale_one_is_the_original(name):
    ours = rule(name, 64).frequencies(64, 10000.0, 1.0, 4096)
    same = torch.allclose(ours.inverse, rope(64, 10000.0), rtol=1e-6, atol=0)
    assert same == rule(name, 64).original_at_one
    assert ours.attention_factor == 1
