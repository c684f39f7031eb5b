# SPDX-License-Identifier: Apache-2.0
"""Generation at the scale that each request needs."""

import json

import pytest
import torch

from megatron_patches.errors import UserError
from tests.tools.tiny_llama import BASE_WINDOW, EOS, is_greedy, make_tiny_llama, one_thread
from tools.checkpoint.window import with_scale
from tools.evaluation.generate import e2_scale_for, generate
from tools.evaluation.model import load_config, load_model


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    with one_thread():
        yield make_tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture
def model(path):
    return load_model(path, torch.float32, torch.device("cpu"))


@pytest.mark.parametrize(
    ("length", "scale"), [(1, 1), (4096, 1), (4097, 2), (8192, 2), (15500 + 512, 4), (32769, 9)]
)
def test_the_smallest_whole_scale_that_fits(length, scale):
    assert e2_scale_for(length, 4096) == scale


def prompts_of(*lengths):
    generator = torch.Generator().manual_seed(1)
    return [[0, *torch.randint(2, 258, (n - 1,), generator=generator).tolist()] for n in lengths]


@pytest.mark.parametrize("scale", ["auto", 3.0, "none"])
def test_a_batch_equals_naive_decoding_at_each_prompts_own_scale(path, model, scale):
    config = load_config(path)
    # With 8 new tokens the first two need g = 1, the last three g = 2, 2 and 3.
    lengths, own = (20, 248, 249, 300, 505), (1, 1, 2, 2, 3)
    prompts = prompts_of(*lengths)
    answers = generate(model, config, prompts, 8, scale=scale)
    for prompt, answer, own_scale in zip(prompts, answers, own, strict=True):
        g = {"auto": own_scale, "none": 1}.get(scale, scale)
        reference = with_scale(config, g, BASE_WINDOW * 3)
        assert is_greedy(path, reference, prompt, answer)
        assert len(answer) == 8 or answer[-1] == EOS


def test_the_scale_matters_in_this_model(path, model):
    (prompt,) = prompts_of(505)
    config = load_config(path)
    assert generate(model, config, [prompt], 8) != generate(model, config, [prompt], 8, scale=1.0)


def test_stops_end_an_answer_and_may_be_held_back(path, model):
    config, prompts = load_config(path), prompts_of(30, 50)
    free = generate(model, config, prompts, 8, stop=[])
    assert [len(answer) for answer in free] == [8, 8]
    stop = free[0][2]
    first = generate(model, config, prompts, 8, stop=[stop])[0]
    assert first == free[0][: free[0].index(stop) + 1]
    held = generate(model, config, prompts[:1], 8, stop=[free[0][0]], min_new_tokens=1)
    assert held[0][0] != free[0][0]


def test_settings_of_the_model_for_sampling_are_not_used(path, model):
    config, prompts = load_config(path), prompts_of(30)
    plain = generate(model, config, prompts, 8)
    model.generation_config.do_sample = True
    model.generation_config.repetition_penalty = 50.0
    model.generation_config.temperature = 5.0
    assert generate(model, config, prompts, 8) == plain
    assert model.generation_config.repetition_penalty == 50.0


def test_an_empty_prompt_and_a_rope_without_scale_are_refused(path, model):
    config = load_config(path)
    with pytest.raises(UserError, match="no tokens"):
        generate(model, config, [[]], 8)
    dynamic = json.loads(json.dumps(config)) | {"rope_parameters": {"rope_type": "dynamic"}}
    with pytest.raises(UserError, match="cannot be rescaled"):
        generate(model, dynamic, [[0, 5]], 8)
