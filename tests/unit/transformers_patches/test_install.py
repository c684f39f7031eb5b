# SPDX-License-Identifier: Apache-2.0
"""Which models take draws, and what becomes of their config."""

import copy
import dataclasses
import json
import pickle

import pytest
import torch
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig

from e2_common.errors import UserError
from e2_llm.config import E2Config
from e2_tools.checkpoint.families import FAMILIES
from e2_tools.checkpoint.set_window import set_window
from tests.helpers.families import make_model
from transformers_patches import MODEL_TYPES, install

CONFIG = E2Config(base_window=64, train_window=64, max_scale=8)


def test_the_models_are_those_of_the_converters():
    assert set(MODEL_TYPES) == set(FAMILIES)


def test_other_models_are_refused_by_name():
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 32}
    config = GemmaConfig(**small, num_attention_heads=2, num_key_value_heads=1, head_dim=16)
    with pytest.raises(UserError, match="model_type 'gemma': .*llama, mistral, qwen2, qwen3"):
        install(AutoModelForCausalLM.from_config(config), CONFIG, 1)


def test_a_rope_that_is_not_the_configs_is_refused():
    model = make_model("llama")
    model.model.rotary_emb.inv_freq *= 0.5
    with pytest.raises(UserError, match="is not the one that its config describes"):
        install(model, CONFIG, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_that_was_cast_has_the_positions_of_one_that_was_not(dtype):
    """Its rotary module was rounded with its weights; ours is not."""
    found = []
    for kind in (torch.float32, dtype):
        model = make_model("llama").to(kind).train()
        positions = install(model, CONFIG, 1)
        positions.set_samples(range(1), 0)
        found.append(positions.rotary(torch.zeros(1, 64, 1), torch.arange(64)[None]))
    assert all(map(torch.equal, *found))
    wrong = make_model("llama").to(dtype)
    wrong.model.rotary_emb.inv_freq *= 0.95
    with pytest.raises(UserError, match="is not the one that its config describes"):
        install(wrong, CONFIG, 1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mistral", {"sliding_window": 16}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2}),
    ],
)
def test_a_sliding_window_is_refused(name, options):
    config = make_model(name).config
    content = config.to_dict() | options
    content.pop("layer_types", None)
    model = AutoModelForCausalLM.from_config(type(config).from_dict(content))
    with pytest.raises(UserError, match=r"sliding window of 16 .*sliding_window=None"):
        install(model, CONFIG, 1)


def test_a_model_that_takes_draws_can_be_copied_and_pickled():
    model = make_model("llama").train()
    positions = install(model, CONFIG, 1)
    positions.set_samples(range(1), 0)
    ids = torch.arange(40)[None]
    expected = model(ids).logits
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(ids).logits, expected)


def test_another_configuration_has_its_own_frequencies():
    model = make_model("llama").train()
    positions = install(model, CONFIG, 1)
    ids, yarn = torch.arange(40)[None], dataclasses.replace(CONFIG, frequencies="yarn")
    fresh = make_model("llama").train()
    other = install(fresh, yarn, 1)
    for index in range(4):
        positions.set_samples(range(index, index + 1), 0)
        model(ids)
    positions.set_config(yarn)
    for index in range(4):
        for own in (positions, other):
            own.set_samples(range(index, index + 1), 0)
        assert torch.equal(model(ids).logits, fresh(ids).logits)


@pytest.mark.slow  # the compiler takes a while
@pytest.mark.parametrize("frequencies", ["linear", "yarn"])
@pytest.mark.parametrize("draw_per", ["microbatch", "sample"])
def test_a_compiled_model_is_not_compiled_anew_for_every_draw(draw_per, frequencies):
    model = make_model("llama").train()
    drawn = {"draw_per": draw_per, "frequencies": frequencies}
    positions = install(model, E2Config(base_window=64, train_window=64, **drawn), 1)
    ids, graphs, counts = torch.arange(80).reshape(2, 40), [], []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled, draws = torch.compile(model, backend=backend), set()
    for index in range(4):
        positions.set_samples(range(2 * index, 2 * index + 2), 0)
        draws.add(tuple(positions.rotary.draws))
        output = compiled(ids)
        torch.testing.assert_close(output.logits, model(ids).logits)
        output.logits.sum().backward()
        counts.append(len(graphs))
    assert len(draws) == 4
    assert counts == counts[:1] * 4


def test_a_scaled_rope_is_refused():
    yarn = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 10000.0}
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(hidden_size=32, num_hidden_layers=1, vocab_size=32, rope_parameters=yarn)
    )
    with pytest.raises(UserError, match="yarn"):
        install(model, CONFIG, 1)


def test_a_second_time_is_refused():
    model = make_model("llama")
    install(model, CONFIG, 1)
    with pytest.raises(UserError, match="takes draws already"):
        install(model, CONFIG, 1)


def test_another_base_window_than_the_models_is_refused():
    model = make_model("llama")
    install(model, CONFIG, 1)
    again = AutoModelForCausalLM.from_config(type(model.config).from_dict(model.config.to_dict()))
    with pytest.raises(UserError, match="base_window 32: .* 64 tokens"):
        install(again, E2Config(base_window=32, train_window=32), 1)


@pytest.mark.parametrize(
    ("options", "window"),
    [({}, 64), ({"frequencies": "yarn"}, 64), ({"frequencies": "ntk"}, 64)],
)
def test_a_saved_model_serves_any_window(tmp_path, options, window):
    model = make_model("qwen3")
    positions = install(model, E2Config(base_window=64, train_window=64, max_scale=8, **options), 1)
    positions.note_iteration(12)
    model.save_pretrained(tmp_path / "model")
    content = json.loads((tmp_path / "model" / "config.json").read_text())
    assert content["max_position_embeddings"] == window
    assert content["e2_llm"]["iteration"] == 12
    set_window(tmp_path / "model", 256)
    served = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    tokens = torch.arange(40)[None]
    with torch.no_grad(), positions.window(256):
        torch.testing.assert_close(model(tokens).logits, served(tokens).logits, atol=2e-4, rtol=0)


def test_a_method_of_one_scale_is_saved_at_it(tmp_path):
    model = make_model("llama")
    config = E2Config(position_method="linear", base_window=64, train_window=64, factor=4.0)
    positions = install(model, config, 1)
    model.save_pretrained(tmp_path)
    served = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert served.config.max_position_embeddings == 256
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, served(tokens).logits, atol=2e-4, rtol=0)
    assert positions.rotary.method.trained_scale == 4


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_documents_of_a_window_do_not_see_each_other(attention):
    """Each has the logits that it has alone at its draw, whatever use_cache the config has."""
    model = make_model("mistral").train()
    model.set_attn_implementation(attention)
    assert model.config.use_cache
    positions = install(model, CONFIG, 1)
    positions.set_samples(range(2), 0)
    ids = torch.randint(0, 256, (2, 60), generator=torch.Generator().manual_seed(1))
    lengths = [[20, 40], [33, 27]]
    given = torch.stack([torch.cat([torch.arange(n) for n in row]) for row in lengths])
    logits = model(ids, position_ids=given).logits
    for row, parts in enumerate(lengths):
        for document, expected in zip(ids[row].split(parts), logits[row].split(parts), strict=True):
            alone = model(document[None].expand(2, -1)).logits[0]
            torch.testing.assert_close(alone, expected, atol=1e-4, rtol=1e-4)


def test_flash_attention_that_would_mix_documents_is_refused():
    """transformers tells it where documents begin only if the batch is one row."""
    model = make_model("llama").train()
    install(model, CONFIG, 1).set_samples(range(2), 0)
    model.config._attn_implementation = "flash_attention_2"
    ids, given = torch.zeros(2, 8, dtype=torch.long), torch.arange(8).remainder(4)[None]
    with pytest.raises(UserError, match="2 windows of several documents each: flash attention"):
        model(ids, position_ids=given)
