# SPDX-License-Identifier: Apache-2.0
"""What a run refuses of its positions, before anything is built."""

import argparse
import json

import pytest

from e2_common.errors import UserError
from e2_llm.config import E2Config
from e2_llm.frequencies import RULES
from megatron_patches.start.arguments import _check_support

ARGS = {
    "position_embedding_type": "rope",
    "context_parallel_size": 1,
    "transformer_impl": "local",
    "kv_channels": 32,
    "rotary_percent": 1.0,
    "rotary_base": 10000,
    "e2_override": False,
    "seed": 1234,
    "micro_batch_size": 1,
    "data_parallel_size": 1,
    "global_batch_size": 8,
    "step_batch_size_schedule": None,
    "train_iters": 10,
    "load": None,
    "pretrained_checkpoint": None,
    "mtp_num_layers": None,
}


def check(config=None, **changes):
    config = E2Config(base_window=64, train_window=64, **(config or {}))
    _check_support(argparse.Namespace(**(ARGS | changes)), config)


def refused(*words, config=None, **changes):
    with pytest.raises(UserError) as error:
        check(config, **changes)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_frequencies_that_nothing_serves_need_a_word(monkeypatch):
    check()
    monkeypatch.setattr(type(RULES["yarn"]), "exportable", False, raising=False)
    refused("--e2-frequencies yarn", "--e2-override", config={"frequencies": "yarn"})
    check({"frequencies": "yarn"}, e2_override=True)


def test_factor_lists_of_another_model():
    lists = json.dumps({"long_factor": [1.0] * 8 + [4.0] * 8, "factor": 4.0})
    config = {"frequencies": "longrope", "longrope_factors": lists}
    check(config)
    words = ("16 factors", "has 32 frequencies")
    refused("--e2-longrope-factors", *words, config=config, kv_channels=64)
    check(config, kv_channels=64, rotary_percent=0.5)


def test_a_seed_that_megatron_does_not_take():
    refused("--seed -1", seed=-1)
    refused("--seed 0", seed=0)


@pytest.mark.parametrize("kind", ["yarn", "mrope", "learned_absolute", "none"])
def test_other_kinds_of_positions(kind):
    refused(f"--position-embedding-type {kind}", position_embedding_type=kind)
