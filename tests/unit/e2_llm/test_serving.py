# SPDX-License-Identifier: Apache-2.0
"""One scale for a window: what training validates at, what is exported, what is evaluated."""

import itertools

import pytest

from e2_common.errors import UserError
from e2_llm.config import E2Config
from e2_llm.exported import Exported
from e2_llm.methods import method_for
from e2_llm.serving import serving_scale
from e2_llm.window import factor_note, rope_parameters, scale_for, with_scale, with_window

PLAIN = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": 4096,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}


def test_whole_and_real_scales():
    windows = (1, 4096, 4097, 6144, 8192, 32768)
    whole = [serving_scale(window, 4096, whole=True) for window in windows]
    real = [serving_scale(window, 4096, whole=False) for window in windows]
    assert whole == [1, 1, 2, 2, 2, 8]
    assert real == [1, 1, 4097 / 4096, 1.5, 2, 8]


def test_the_scale_follows_what_training_drew():
    served = {
        distribution: method_for(
            E2Config(base_window=4096, train_window=4096, scale_distribution=distribution)
        ).serving_scale(6144)
        for distribution in ("uniform-integer", "uniform", "log-uniform")
    }
    assert served == {"uniform-integer": 2.0, "uniform": 1.5, "log-uniform": 1.5}
    for fixed, expected in ((3.0, 2.0), (2.5, 1.5)):
        config = E2Config(base_window=4096, train_window=4096, fixed_scale=fixed)
        assert method_for(config).serving_scale(6144) == expected
    pose = E2Config(position_method="pose", base_window=4096, train_window=4096, factor=8.0)
    assert method_for(pose).serving_scale(6144) == 8.0
    none = E2Config(position_method="none", base_window=4096, train_window=4096)
    assert method_for(none).serving_scale(6144) == 1.5


@pytest.mark.parametrize("rule", ["linear", "ntk", "yarn", "llama3"])
def test_what_is_written_is_what_is_measured(rule):
    """For every way of training and every window: set_window's factor is evaluation's scale."""
    for whole, window in itertools.product((None, False), (4096, 5000, 6144, 40000)):
        exported = Exported(
            method="e2",
            frequencies=rule,
            rope_theta=10000.0,
            base_window=4096,
            max_scale=20,
            whole_scales=whole,
        )
        config = exported.to_config(PLAIN)
        expected = serving_scale(window, 4096, whole=whole is None)
        written = with_window(config, window)
        assert scale_for(config, window) == expected
        assert rope_parameters(written)["factor"] == pytest.approx(expected, abs=1e-6)
        assert scale_for(written, window) == expected
        assert written["max_position_embeddings"] == window


def test_a_model_that_was_not_trained_is_served_at_w_over_l():
    assert scale_for(PLAIN, 6144) == 1.5
    scaled = {**PLAIN, "max_position_embeddings": 16384}
    scaled["rope_parameters"] = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    assert scale_for(scaled, 24576) == 1.5  # of the RoPE that it has
    assert with_window(scaled, 24576)["rope_parameters"]["factor"] == 6.0


def test_a_model_of_one_factor_keeps_it():
    exported = Exported(method="yarn", frequencies="yarn", rope_theta=10000.0, base_window=4096)
    config = exported.to_config(PLAIN)
    config["rope_parameters"] = {"rope_type": "yarn", "factor": 8.0, "rope_theta": 10000.0}
    assert [scale_for(config, window) for window in (4096, 6144, 65536)] == [8.0, 8.0, 8.0]
    with pytest.raises(UserError, match="one factor"):
        exported.serving_scale(6144)


def test_the_block_comes_back_from_a_config():
    exported = Exported(
        method="e2",
        frequencies="yarn",
        rope_theta=5e5,
        own_factor=2.0,
        base_window=128,
        train_window=64,
        max_scale=16,
        keep_first=4,
        iteration=250,
        whole_scales=False,
    )
    assert Exported.from_config(exported.to_config(PLAIN)) == exported
    assert Exported.from_config(PLAIN) is None


@pytest.mark.parametrize(
    "block",
    [
        "e2",
        {},
        {"base_window": 0},
        {"base_window": "4096"},
        {"base_window": True},
        {"base_window": 128, "frequencies": "cubic"},
        {"base_window": 128, "rope_theta": -1},
        {"base_window": 128, "rope_theta": "large"},
        {"base_window": 128, "own_factor": None},
        {"base_window": 128, "max_scale": 2.5},
        {"base_window": 128, "method": 3},
        {"base_window": 128, "whole_scales": "yes"},
        {"base_window": 128, "frequencies": ["linear"]},
    ],
)
def test_a_damaged_block_is_refused(block):
    with pytest.raises(UserError, match="export the model again") as error:
        Exported.from_config({**PLAIN, "e2_llm": block})
    assert "\n" not in str(error.value)


def test_a_config_that_serves_another_scale_is_noted():
    exported = Exported(method="e2", rope_theta=10000.0, base_window=4096)
    good = with_window(exported.to_config(PLAIN), 6144)
    assert factor_note(good) is None
    assert factor_note(PLAIN) is None
    old = with_scale(good, 1.5, 6144)  # what exports wrote when they took W / L for all
    assert "6144 tokens at factor 1.5, its training asks for 2" in factor_note(old)
    assert "\n" not in factor_note(old)
