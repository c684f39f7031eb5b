# SPDX-License-Identifier: Apache-2.0
"""Every rule on every kind of model: what the export writes, transformers computes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from e2_common.errors import UserError
from e2_llm.config import E2Config
from e2_llm.exported import Exported
from e2_llm.frequencies import BY_SCALE, RULES, Llama3Scaling, OwnRope, rope
from e2_llm.frequencies.rule import NEVER, WRITTEN
from e2_llm.methods import method_for
from e2_llm.window import own_rope, rope_parameters, scale_for, with_rule, with_scale, with_window
from tests.helpers.rules import G, factor_list, rule, settings_of, turns

DIM, WINDOW = 64, 131072
OWN = {
    "plain": OwnRope(500000.0),
    "linear": OwnRope(500000.0, factor=2.0),
    "llama3.1": OwnRope(500000.0, llama3=Llama3Scaling(8.0)),
    "llama3.2": OwnRope(500000.0, llama3=Llama3Scaling(32.0)),
    "both": OwnRope(500000.0, factor=2.0, llama3=Llama3Scaling(8.0)),
}
SCALES = (1.0, 2.0, 3.5, 8.0, 16.0)
PLAIN = {"hidden_size": 2 * DIM, "num_attention_heads": 2, "max_position_embeddings": WINDOW}


def theirs(parameters, window=WINDOW):
    """Frequencies and attention factor of a fresh model of transformers."""
    config = LlamaConfig(
        **(PLAIN | {"max_position_embeddings": window}), rope_parameters=dict(parameters)
    )
    module = LlamaRotaryEmbedding(config)
    before = module.inv_freq.clone()
    positions = torch.tensor([[2 * window]])
    module(torch.zeros(1), positions)  # types that follow the length change them now
    torch.testing.assert_close(module.inv_freq, before, rtol=0, atol=0)
    return module.inv_freq, module.attention_scaling


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("name", RULES)
def test_transformers_computes_what_is_written(name, kind):
    """1e-18: a frequency of zero is written as a factor of 1e20."""
    own, ours = OWN[kind], rule(name, DIM)
    for scale in SCALES:
        written = json.loads(json.dumps(ours.to_hf(DIM, own, scale, WINDOW), allow_nan=False))
        inverse, attention_factor = theirs(written)
        expected = ours.frequencies(DIM, own, scale, WINDOW)
        torch.testing.assert_close(expected.inverse, inverse, rtol=1e-6, atol=1e-18)
        assert attention_factor == pytest.approx(expected.attention_factor, rel=1e-12)
        assert set(written) <= set(WRITTEN)
        found = ours.from_hf(written, DIM, own)
        if found is None:  # then there is nothing to tell apart
            assert written == ours.to_hf(DIM, own, 2 * scale, WINDOW)
        else:
            assert found == pytest.approx(scale, rel=1e-6)


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("name", RULES)
def test_a_window_is_set_and_set_back(name, kind):
    own, ours = OWN[kind], rule(name, DIM)
    method = method_for(
        E2Config(base_window=WINDOW, train_window=64, frequencies=name, **settings_of(name, DIM))
    )
    block = Exported.of_training(method, own=own)
    config = block.to_config({**PLAIN, "rope_parameters": {"rope_theta": own.theta}})
    first = json.loads(json.dumps(with_scale(config, 1.0, WINDOW)))
    assert Exported.from_config(first) == block
    assert own_rope(first) == own
    for scale in (2, 8, 3):
        served = json.loads(json.dumps(with_window(first, scale * WINDOW)))
        assert scale_for(served, scale * WINDOW) == scale
        assert rope_parameters(served)["factor"] == pytest.approx(scale)
        inverse, _ = theirs(served["rope_parameters"], scale * WINDOW)
        expected = ours.frequencies(DIM, own, float(scale), WINDOW).inverse
        torch.testing.assert_close(expected, inverse, rtol=1e-6, atol=1e-18)
        assert with_window(served, WINDOW) == first


@pytest.mark.parametrize("name", RULES)
def test_another_rule_takes_its_place(name):
    """As an evaluation asks for it, whatever the model was trained with."""
    own = OWN["llama3.1"] if name != "abf" else OWN["plain"]
    settings = rule(name, DIM).settings() or None
    block = replace(Exported.untrained(own, WINDOW), frequencies=name, rule_settings=settings)
    config = block.to_config({**PLAIN, "rope_parameters": {"rope_theta": own.theta}})
    trained = with_scale(config, 2.0, 2 * WINDOW)
    for other in BY_SCALE:
        changed = with_window(with_rule(trained, other), 8 * WINDOW)
        inverse, _ = theirs(changed["rope_parameters"], 8 * WINDOW)
        expected = RULES[other].frequencies(DIM, own, 8.0, WINDOW).inverse
        torch.testing.assert_close(expected, inverse, rtol=1e-6, atol=1e-18)


@pytest.mark.parametrize("name", RULES)
def test_scale_one_is_the_models_own_rope(name):
    for own in OWN.values():
        ours = rule(name, DIM)
        inverse = ours.frequencies(DIM, own, 1.0, WINDOW).inverse
        same = torch.allclose(inverse, own.inverse(DIM), rtol=1e-6, atol=0)
        assert same == ours.original_at_one
        if own.to_hf() and ours.original_at_one and not ours.is_native(own):
            assert ours.to_hf(DIM, own, 1.0, WINDOW) == own.to_hf()


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_own_scaling_is_transformers(factor):
    own = OwnRope(500000.0, llama3=Llama3Scaling(factor))
    inverse, _ = theirs({**own.llama3.to_hf(), "rope_theta": own.theta})
    torch.testing.assert_close(own.inverse(DIM), inverse, rtol=1e-6, atol=0)
    # Linear scaling of it divides all.
    ours = RULES["linear"].frequencies(DIM, own, 3.5, WINDOW).inverse
    torch.testing.assert_close(ours, inverse / 3.5, rtol=1e-6, atol=0)


def test_yarn_on_llama3_keeps_what_turns_often_in_the_own_window():
    """By definition, in float64: the ramp of Eq 13 between 32 turns and one of the own angles."""
    own = OWN["llama3.1"]
    inverse, _ = theirs({**own.llama3.to_hf(), "rope_theta": own.theta})
    inverse = inverse.double().numpy()
    for scale in (2.0, 3.5, 8.0):
        often = turns(inverse, WINDOW)
        # The dimension, a real number, that turns 32 times or once: its neighbours are geometric
        # but within the blend of llama3, where neither falls.
        index = np.interp([-np.log(32), -np.log(1)], -np.log(often), np.arange(DIM // 2))
        low, high = np.floor(index[0]), np.ceil(index[1])
        ramp = np.clip((np.arange(DIM // 2) - low) / (high - low), 0, 1)
        expected = inverse / scale * ramp + inverse * (1 - ramp)
        ours = RULES["yarn"].frequencies(DIM, own, scale, WINDOW).inverse
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-6)
        # What never turned once in pre-training is interpolated whole.
        assert (often < 1).sum() > 4
        np.testing.assert_allclose(ours.numpy()[often < 1], inverse[often < 1] / scale, rtol=1e-6)


def test_yarn_without_rounding_is_transformers():
    plain, ours = OwnRope(500000.0), RULES["yarn-untruncated"]
    written = ours.to_hf(DIM, plain, 4.0, 4096)
    assert written["truncate"] is False
    inverse, _ = theirs(written)
    torch.testing.assert_close(
        ours.frequencies(DIM, plain, 4.0, 4096).inverse, inverse, rtol=1e-6, atol=0
    )
    rounded = RULES["yarn"].frequencies(DIM, plain, 4.0, 4096).inverse
    assert not torch.allclose(rounded, inverse, rtol=1e-3)


def test_another_base_is_that_base():
    inverse, _ = theirs({"rope_type": "default", "rope_theta": 2.5e6})
    for scale in SCALES:
        ours = rule("abf").frequencies(DIM, 10000.0, scale, WINDOW).inverse
        torch.testing.assert_close(ours, inverse, rtol=1e-6, atol=0)


@pytest.mark.parametrize("given", [None, 1.19])
@pytest.mark.parametrize("short", [None, [1.0] * 32, [1.05] * 32])
def test_factor_lists_are_transformers_at_their_scale(given, short):
    lists = {"long_factor": factor_list(DIM), "factor": G, "attention_factor": given}
    if short:
        lists["short_factor"] = short
    ours = RULES["longrope"].with_settings({"longrope_factors": lists})
    rope_type = {"rope_type": "longrope", "rope_theta": 10000.0, **lists}
    rope_type |= {"original_max_position_embeddings": 4096, "short_factor": lists["long_factor"]}
    inverse, attention_factor = theirs(rope_type)
    found = ours.frequencies(DIM, 10000.0, G, 4096)
    torch.testing.assert_close(found.inverse, inverse, rtol=1e-6, atol=0)
    assert found.attention_factor == pytest.approx(attention_factor)
    # At g = 1 the list for short texts, which is the original without one.
    rope_type |= {"long_factor": short or [1.0] * 32, "short_factor": short or [1.0] * 32}
    inverse, _ = theirs(rope_type)
    found = ours.frequencies(DIM, 10000.0, 1.0, 4096)
    torch.testing.assert_close(found.inverse, inverse, rtol=1e-6, atol=0)
    assert found.attention_factor == 1
    assert ours.original_at_one == (short in (None, [1.0] * 32))
    # Between both the frequencies are geometric.
    half = ours.frequencies(DIM, 10000.0, G**0.5, 4096).inverse.double()
    whole = ours.frequencies(DIM, 10000.0, G, 4096).inverse.double()
    torch.testing.assert_close(half**2, whole * found.inverse.double(), rtol=1e-5, atol=0)


def test_gene_by_its_definition():
    inverse = rope(128, 10000.0).numpy()
    critical = int(np.nonzero(turns(inverse, 4096) < 3)[0][0])
    for scale in (1.0, 3.0, 16.0):
        ours = RULES["gene"].frequencies(128, 10000.0, scale, 4096).inverse.numpy()
        for i in range(64):
            expected = inverse[i] / scale ** min(i / critical, 1)
            assert ours[i] == pytest.approx(expected, rel=1e-5)
    # A window in which nothing turns three times: all is interpolated.
    short = RULES["gene"].frequencies(128, 10000.0, 4.0, 16).inverse
    torch.testing.assert_close(short, rope(128, 10000.0) / 4, rtol=1e-6, atol=0)


def test_cope_by_its_definition():
    for scale in (1.0, 4.0):
        before = RULES["ntk"].frequencies(128, 10000.0, scale, 4096).inverse.numpy()
        ours = RULES["cope"].frequencies(128, 10000.0, scale, 4096).inverse.numpy()
        np.testing.assert_array_equal(ours[:44], before[:44])
        fading = (1 + np.cos(np.pi * np.arange(20) / 19)) / 2
        np.testing.assert_allclose(ours[44:], before[44:] * fading, rtol=1e-5, atol=1e-12)
        assert ours[-1] == 0


def test_no_frequency_rotates_nothing_in_transformers_either():
    """Cosines are 1 to the bit and sines vanish in any sum, a million tokens away."""
    written = RULES["drope"].to_hf(DIM, 500000.0, 4.0, WINDOW)
    assert written["long_factor"] == [NEVER] * (DIM // 2)
    config = LlamaConfig(**PLAIN, rope_parameters=written)
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.tensor([[1_000_000]]))
    assert (cos == 1).all()
    assert sin.abs().max() < 1e-13


def test_both_forms_name_the_attention_factor_for_both_engines():
    """transformers reads attention_factor, vLLM's longrope short_mscale and long_mscale."""
    written = RULES["yarn"].to_hf(DIM, OWN["llama3.1"], 8.0, WINDOW)
    found = {written[key] for key in ("attention_factor", "short_mscale", "long_mscale")}
    assert found == {RULES["yarn"].frequencies(DIM, 10000.0, 8.0, WINDOW).attention_factor}
    assert written["short_factor"] == written["long_factor"]


def test_a_llama_31_of_the_hub_is_rescaled_and_remembers_itself():
    llama3 = {**Llama3Scaling(8.0).to_hf(), "rope_theta": 500000.0}
    config = {**PLAIN, "rope_parameters": llama3}
    assert scale_for(config, 2 * WINDOW) == 2.0
    served = with_window(config, 2 * WINDOW)
    inverse, _ = theirs(served["rope_parameters"], 2 * WINDOW)
    own, _ = theirs(llama3)
    torch.testing.assert_close(inverse, own / 2, rtol=1e-6, atol=0)
    back = with_window(served, WINDOW)
    assert back["rope_parameters"] == llama3
    damaged = {**PLAIN, "rope_parameters": {**llama3, "factor": None}}
    with pytest.raises(UserError, match="llama3 RoPE: factor is None"):
        with_window(damaged, WINDOW)


@pytest.mark.parametrize(
    "block",
    [
        {"own_scaling": "llama3"},
        {"own_scaling": {"rope_type": "llama3"}},
        {"frequencies": "abf"},
        {"frequencies": "abf", "rule_settings": {"theta": 0.5}},
        {"frequencies": "abf", "rule_settings": {"theta": "high"}},
        {"frequencies": "linear", "rule_settings": {"theta": 5.0}},
        {"frequencies": "longrope", "rule_settings": {"longrope_factors": [1]}},
        {"frequencies": "longrope", "rule_settings": {"longrope_factors": {"factor": 2}}},
        {"frequencies": "longrope", "rule_settings": "x"},
    ],
    ids=str,
)
def test_damaged_settings_are_refused(block):
    with pytest.raises(UserError) as error:
        Exported.from_config({**PLAIN, "e2_llm": {"base_window": 128, **block}})
    assert "\n" not in str(error.value)
