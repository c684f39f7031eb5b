# SPDX-License-Identifier: Apache-2.0
"""transformers' models on a CPU, with our attention under the name of theirs."""

import contextlib

import pytest
import torch
import transformers
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from transformers_patches import on_cpu

SIZES = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


@pytest.fixture
def calls(monkeypatch):
    """Our attention is in place while a test runs; how often it attended by blocks."""
    counted = []
    own = on_cpu.causal_attention
    monkeypatch.setattr(on_cpu, "causal_attention", lambda *given: counted.append(1) or own(*given))
    on_cpu.install()
    yield counted
    AttentionInterface.register(on_cpu.NAME, sdpa_attention_forward)


def model_of(dtype, family="Llama", **more):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES, **more)
    model = getattr(transformers, f"{family}ForCausalLM")._from_config(
        config, attn_implementation="sdpa"
    )
    return model.to(dtype)


def loss_and_gradients(model, ids, autocast=False, **more):
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
        loss = model(input_ids=ids, labels=ids, **more).loss
    loss.backward()
    return loss.item(), torch.cat([one.grad.float().flatten() for one in model.parameters()])


IDS = torch.randint(97, (2, 200), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("family", ["Llama", "Qwen3", "GPTNeoX"])
def test_bf16_stays_near_fp32(calls, family, autocast):
    more = {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}
    exact = loss_and_gradients(model_of(torch.float32, family, **more), IDS)
    assert not calls  # fp32 is transformers' own
    dtype = torch.float32 if autocast else torch.bfloat16
    loss, gradients = loss_and_gradients(model_of(dtype, family, **more), IDS, autocast)
    assert len(calls) == 2
    assert loss == pytest.approx(exact[0], rel=2e-3)
    assert torch.dist(gradients, exact[1]) < 0.05 * exact[1].norm()


@torch.inference_mode()
def test_masks_and_single_tokens_are_transformers_own(calls):
    model = model_of(torch.bfloat16).eval()
    padded = torch.ones_like(IDS)
    padded[0, :7] = 0
    model(input_ids=IDS, attention_mask=padded)
    assert not calls
    cache = model(input_ids=IDS[:, :-1], use_cache=True).past_key_values
    assert len(calls) == 2
    following = model(input_ids=IDS[:, -1:], past_key_values=cache).logits[:, -1]
    assert len(calls) == 2
    whole = model(input_ids=IDS).logits[:, -1]
    torch.testing.assert_close(following, whole, rtol=0.05, atol=0.02)


@torch.inference_mode()
def test_windows_that_slide_are_transformers_own(calls):
    more = {"sliding_window": 16}
    model = model_of(torch.bfloat16, "Mistral", **more).eval()
    exact = model_of(torch.float32, "Mistral", **more).eval()
    found, truth = (one(input_ids=IDS).logits.float() for one in (model, exact))
    assert not calls
    assert torch.dist(found, truth) < 0.02 * truth.norm()


def test_dropout_is_transformers_own(calls):
    loss_and_gradients(model_of(torch.bfloat16, attention_dropout=0.1).train(), IDS)
    assert not calls


@torch.inference_mode()
def test_an_encoder_sees_both_ways(calls):
    config = transformers.BertConfig(
        vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=1,
        num_attention_heads=4,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertModel._from_config(config, attn_implementation="sdpa")
    model.to(torch.bfloat16).eval()(IDS)
    assert not calls
