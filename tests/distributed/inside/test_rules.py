# SPDX-License-Identifier: Apache-2.0
"""Logits under every rule, in Megatron's model and in transformers' one of the exported RoPE."""

import json

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from e2_llm.arguments import own_rope
from e2_llm.config import E2Config
from e2_llm.exported import Exported
from e2_llm.frequencies import RULES
from e2_llm.methods import method_for
from e2_llm.sampler import Draw
from e2_llm.window import with_scale
from megatron_patches.training.step import set_draws
from tests.distributed.inside.models import built, megatron_args
from tests.helpers.rules import settings_of
from tests.tools.checkpoint.megatron_save import PADDED_VOCAB, VOCAB, fuse

WINDOW, DIM = 64, 32
OWN = {
    "plain": [],
    "linear": ["--rotary-seq-len-interpolation-factor", "4"],
    "llama3": ["--use-rope-scaling", "--rope-scaling-factor", "32"],
}
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": DIM,
    "max_position_embeddings": WINDOW,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def weights():
    """The same model twice: as transformers has it, and Megatron's tensors by name."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter.data, std=0.3)
    return model.state_dict(), fuse(model, stacked=False, local_names=True)


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("name", RULES)
def test_exported_logits_are_megatrons(model_parallel, monkeypatch, weights, own, name):
    if model_parallel > 1:
        pytest.skip("angles know no tensor parallelism; test_layouts.py has layouts")
    hf, ours = weights
    flags = ["--num-layers", "2", "--norm-epsilon", "1e-5", *OWN[own]]
    args = megatron_args(monkeypatch, 1, *flags)
    args.padded_vocab_size = PADDED_VOCAB
    config = E2Config(
        base_window=WINDOW, train_window=WINDOW, frequencies=name, **settings_of(name, DIM)
    )
    model = built(args, config).eval()
    loaded = model.load_state_dict(ours, strict=False)
    assert not loaded.unexpected_keys
    assert not [key for key in loaded.missing_keys if not key.endswith("_extra_state")]
    tokens = torch.randint(VOCAB, (1, 3 * WINDOW), generator=torch.Generator().manual_seed(1))
    block = Exported.of_training(method_for(config), own=own_rope(args))
    plain = {**SIZES, "rope_parameters": {"rope_theta": block.rope_theta}}
    for scale in (1.0, 3.5):
        exported = json.loads(json.dumps(with_scale(block.to_config(plain), scale, 3 * WINDOW)))
        rope = exported["rope_parameters"]
        expected = logits(hf, tokens, rope)
        set_draws(model, [Draw(scale, 0)])
        with torch.no_grad():
            found = model(tokens, torch.arange(3 * WINDOW)[None], None)[..., :VOCAB]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        if own != "plain" and name != "drope":  # which has nothing of the model's own
            without = method_for(config).rule.to_hf(DIM, block.rope_theta, scale, WINDOW)
            difference = (logits(hf, tokens, without) - expected).abs().max()
            assert difference > 1e-3


def logits(weights, tokens, rope):
    model = LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=dict(rope)))
    model.load_state_dict(weights)
    with torch.no_grad():
        return model(tokens).logits
