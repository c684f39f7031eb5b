# SPDX-License-Identifier: Apache-2.0
"""The rotary module in models of transformers: what it serves, and what it trains with."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from e2_common.errors import UserError
from e2_llm.config import E2Config
from e2_llm.exported import Exported
from e2_llm.methods import method_for
from e2_llm.sampler import Draw
from e2_llm.window import with_scale
from tests.helpers.families import FAMILIES, make_model
from transformers_patches import JOINTS, install

TOKENS = torch.randint(0, 256, (2, 48), generator=torch.Generator().manual_seed(1))
RULES = {"linear": {}, "yarn": {"frequencies": "yarn", "scale_distribution": "log-uniform"}}


def installed(name="smollm2", seed=7, **options):
    config = E2Config(base_window=64, train_window=64, max_scale=8, **options)
    model = make_model(name)
    return model, install(model, config, seed)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "llama3"])
@pytest.mark.parametrize("rule", RULES)
def test_a_window_is_evaluated_as_transformers_serves_it(name, rule):
    """The reference builds its own rotary module from a config.json."""
    model, positions = installed(name, **RULES[rule])
    content, weights = model.config.to_dict(), model.state_dict()
    assert Exported.from_config(content).frequencies == rule
    for scale in (1, 2, 4):
        config = type(model.config).from_dict(with_scale(content, float(scale), 64 * scale))
        served = AutoModelForCausalLM.from_config(config).eval()
        served.load_state_dict(weights)
        with torch.no_grad(), positions.window(64 * scale):
            expected, found = served(TOKENS).logits, model(TOKENS).logits
            torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)
            if scale == 2 and name == "llama":  # a cache holds the first tokens
                ours, theirs = (
                    one.generate(TOKENS, max_new_tokens=8, do_sample=False, pad_token_id=0)
                    for one in (model, served)
                )
                assert torch.equal(ours, theirs)


def by_hand(model, draw, positions, rows):
    """Logits of a fresh model of transformers, its rotary module fed with positions [b, s]."""
    fresh = make_model("smollm2")
    inverse, factor = method_for(positions.config).frequencies(draw, 24, positions.own)
    fresh.model.rotary_emb.inv_freq = inverse
    fresh.model.rotary_emb.attention_scaling = factor
    with torch.no_grad():
        return fresh(
            TOKENS, position_ids=torch.stack(rows), attention_mask=torch.ones_like(TOKENS)
        ).logits


@pytest.mark.parametrize("rule", RULES)
def test_a_training_model_takes_its_draws(rule):
    """Places of the library, positions and frequencies by transformers' own module."""
    model, positions = installed(draw_per="sample", placement="offset", **RULES[rule])
    draws = positions.set_samples(range(6, 8), 0)
    method = method_for(positions.config)
    assert draws == [method.draw(7, 6), method.draw(7, 7)]
    assert draws[0] != draws[1]
    with torch.no_grad():
        found = model.train()(TOKENS).logits
    for row, draw in enumerate(draws):
        places = torch.arange(48.0)
        places[4:] += draw.offset
        places = places / draw.scale if rule == "linear" else places
        expected = by_hand(model, draw, positions, [places, places])
        torch.testing.assert_close(found[row], expected[row], atol=2e-4, rtol=0)
    assert (found[0] - by_hand(model, draws[1], positions, [places, places])[0]).abs().max() > 0.01


def test_gradients_are_those_of_layers_that_are_not_computed_again():
    gradients = []
    for again in (False, True):
        model, positions = installed(draw_per="sample", placement="skips", **RULES["yarn"])
        model.train()
        if again:
            enable = getattr(model, "activation_checkpointing_enable", None)
            (enable or model.gradient_checkpointing_enable)()
        positions.set_samples(range(2), 0)
        model(TOKENS, labels=TOKENS).loss.backward()
        gradients.append(model.model.embed_tokens.weight.grad)
    torch.testing.assert_close(*gradients)


def test_documents_of_a_row_are_placed_apart():
    model, positions = installed()
    positions.rotary.set_draws([Draw(4.0, 100)])
    ids = torch.tensor([[*range(20), *range(28)], [*range(48)]])
    cosines = []
    hook = model.model.rotary_emb.register_forward_hook(lambda *call: cosines.append(call[2][0]))
    with torch.no_grad():
        model.train()(TOKENS, position_ids=ids, attention_mask=torch.ones_like(TOKENS))
        model(TOKENS)
    hook.remove()
    apart, together = cosines
    one, other = (positions.rotary.method.positions(Draw(4.0, 100), n) for n in (20, 28))
    expected = torch.cat((one, other))[:, None] * positions.rotary.inv_freq
    torch.testing.assert_close(apart[0, :, :12], expected.cos())
    assert len(together) == 1  # all rows share it, and no document is left over
    torch.testing.assert_close(apart[1], together[0])


def test_joints_of_a_batch_cut_its_windows():
    model, positions = installed(placement="sentences", draw_per="sample")
    joints = torch.zeros_like(TOKENS, dtype=torch.uint8)
    joints[0, [5, 17]] = 1
    draws = positions.set_samples(range(2), 0)
    seen = []
    hook = model.model.rotary_emb.register_forward_hook(lambda *call: seen.append(call[2][0]))
    with torch.no_grad():
        model.train()(TOKENS, labels=TOKENS, **{JOINTS: {"sentences": joints}})
    hook.remove()
    method = positions.rotary.method
    for row, cuts in enumerate(([5, 17], [])):
        angles = method.positions(draws[row], 48, None, cuts)[:, None] * positions.rotary.inv_freq
        torch.testing.assert_close(seen[0][row, :, :12], angles.cos())


def test_training_without_draws_is_refused():
    model, positions = installed(draw_per="sample")
    with pytest.raises(UserError, match="set_samples"):
        model.train()(TOKENS)
    positions.set_samples(range(1), 0)
    with pytest.raises(UserError, match="2 samples and 1 draws"):
        model(TOKENS)


@pytest.mark.parametrize(
    "ids", [[*range(5), *range(3, 46)], [*range(40, 88)], [0, 0, 2, *[1] * 45]]
)
def test_position_ids_that_place_tokens_are_refused(ids):
    model, positions = installed()
    positions.set_samples(range(2), 0)
    with pytest.raises(UserError, match="leave position_ids out"):
        model.train()(TOKENS, position_ids=torch.tensor([ids]))
