# SPDX-License-Identifier: Apache-2.0
"""The last layer's work for scored positions only, against transformers' models run whole."""

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, MistralConfig, MistralForCausalLM

from e2_tools.evaluation.perplexity import last_layer
from e2_tools.evaluation.perplexity.last_layer import has_usual_last_layer, last_states, reader_of
from tests.helpers.families import FAMILIES, SIZES, make_model


def ids_of(length, batch=2):
    return torch.randint(256, (batch, length), generator=torch.Generator().manual_seed(length))


@torch.inference_mode()
def assert_same(model, length, start, **options):
    ids = ids_of(length)
    whole = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, start:]
    torch.testing.assert_close(last_states(model, ids, start), whole, **options)


@pytest.mark.parametrize("name", FAMILIES)
def test_equals_the_whole_model(name):
    model = make_model(name)
    assert has_usual_last_layer(model)
    for start in (0, 1, 20, 39):
        assert_same(model, 40, start)


def test_sliding_window_attention():
    torch.manual_seed(0)
    config = MistralConfig(**SIZES, sliding_window=6)
    model = MistralForCausalLM(config).eval()
    model.set_attn_implementation("sdpa")
    assert has_usual_last_layer(model)
    assert_same(model, 40, 25)


def test_queries_in_parts(monkeypatch):
    monkeypatch.setattr(last_layer, "MASK_AT_ONCE", 3 * 40)
    assert_same(make_model("qwen3"), 40, 20)


def test_bf16_is_close():
    model = make_model("llama", torch.bfloat16)
    assert has_usual_last_layer(model)
    assert_same(model, 40, 20, rtol=0.05, atol=0.05)


def test_only_the_scored_positions_are_worked_on():
    model = make_model("llama")
    seen = []
    for layer in model.model.layers:
        layer.mlp.register_forward_hook(lambda mlp, args, output: seen.append(output.shape[1]))
    last_states(model, ids_of(40), 30)
    assert seen == [40, 40, 40, 10]
    model(ids_of(40))
    assert seen[4:] == [40] * 4  # the model is as it was


def test_other_kinds_of_layers_are_noticed():
    sizes = {key: SIZES[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers")}
    config = GPTNeoXConfig(**sizes, num_attention_heads=4, intermediate_size=96)
    assert not has_usual_last_layer(GPTNeoXForCausalLM(config).eval())  # another cache
    model = make_model("llama")
    model.model.layers[-1].mlp = Mixing(model.model.layers[-1].mlp)
    assert not has_usual_last_layer(model)
    ids = ids_of(40)
    whole = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(reader_of(model)(ids, 20), whole[:, 20:])


class Mixing(torch.nn.Module):
    """A feed-forward network that looks at other positions."""

    def __init__(self, mlp):
        super().__init__()
        self.mlp = mlp

    def forward(self, hidden):
        return self.mlp(hidden + hidden.mean(1, keepdim=True))
