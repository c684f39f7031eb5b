# SPDX-License-Identifier: Apache-2.0
"""A linear factor as it is written: the same numbers, and the stated window in every engine.

vLLM's and sglang's rules are those of their releases 0.33.0 and 0.5.23, told in our words.
"""

import pytest
import torch
import transformers

from e2_llm.frequencies import Llama3Scaling, OwnRope, spelling
from e2_llm.window import base_window, own_rope, rope_parameters, with_window
from tests.helpers.families import SIZES

LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}


def served_by_vllm(config):
    rope = config["rope_parameters"]
    own = ("longrope", "llama3", "yarn")  # of which the stated window is the extended one
    factor = 1 if rope["rope_type"] in own else rope.get("factor", 1)
    return config["max_position_embeddings"] * factor


def served_by_sglang(config):
    rope = config["rope_parameters"]
    extended = "original_max_position_embeddings" in rope or rope["rope_type"] == "llama3"
    return config["max_position_embeddings"] * (1 if extended else rope.get("factor", 1))


@pytest.mark.parametrize("served", [served_by_vllm, served_by_sglang])
def test_the_engines_serve_the_stated_window(served):
    plain = {**SIZES, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
    for window in (64, 96, 256, 64 * 32):
        assert served(with_window(plain, window)) == window
    assert served({**plain, "rope_parameters": LINEAR}) == 4 * 64  # so it was before


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Qwen2", "Qwen3"])
@pytest.mark.parametrize("window", [7, 64, 4096, 131072])
def test_transformers_computes_the_same_bits(family, window):
    kind = getattr(transformers, f"{family}Config")
    module = getattr(transformers.models, family.lower())
    rotary = getattr(getattr(module, f"modeling_{family.lower()}"), f"{family}RotaryEmbedding")
    sizes = {**SIZES, "max_position_embeddings": 4 * window}
    linear, written = (
        rotary(kind(**sizes, rope_parameters=dict(rope)))
        for rope in (LINEAR, spelling.written(LINEAR, window))
    )
    assert torch.equal(linear.inv_freq, written.inv_freq)
    assert linear.attention_scaling == written.attention_scaling == 1


def test_what_was_written_is_read_as_linear():
    for window in (1, 64, 8192, 10**6):
        assert spelling.read(spelling.written(LINEAR, window)) == LINEAR
    plain = {**SIZES, "rope_parameters": {"rope_theta": 10000.0}}
    served = with_window(with_window(plain, 200), 256)
    assert (base_window(served), rope_parameters(served)["factor"]) == (64, 4.0)
    assert own_rope(served) == OwnRope(10000.0)
    assert with_window(served, 128) == with_window(plain, 128)


@pytest.mark.parametrize(
    "scaling", [Llama3Scaling(), Llama3Scaling(32.0), Llama3Scaling(window=64)]
)
def test_a_real_llama3_scaling_stays_one(scaling):
    assert spelling.read(scaling.to_hf()) == scaling.to_hf()


@pytest.mark.parametrize(
    "rope",
    [
        *({"rope_type": "linear", "factor": 1.0}, {"rope_type": "yarn", "factor": 4.0}),
        *({"rope_type": "default"}, {}),
    ],
)
def test_others_stay_as_they_are(rope):
    assert spelling.written(rope, 64) == spelling.read(rope) == rope
