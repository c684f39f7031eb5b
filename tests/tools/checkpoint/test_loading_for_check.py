# SPDX-License-Identifier: Apache-2.0
"""``--check`` of an import: the model of the folder, with no more than what is understood of it."""

import builtins
import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from e2_tools.checkpoint import import_hf
from e2_tools.checkpoint.compare_logits import UncheckedError, hf_logits
from e2_tools.checkpoint.import_hf import ImportOptions, import_model, read_source
from tests.tools.checkpoint.conversions import change_config

TOKENS = torch.arange(24)[None]
CHANGES = [
    {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
    {"quantization_config": {"quant_method": "nonsense"}},
    {"attn_implementation": "flash_attention_2"},
    {"_attn_implementation": "flash_attention_3"},
    {"auto_map": {"AutoModelForCausalLM": "own.Own", "AutoConfig": "own.Config"}},
    {"return_dict": False, "output_hidden_states": True, "output_attentions": True},
    {"pad_token_id": 256},
    {"architectures": ["LLaMAForCausalLM"]},
    {"sliding_window": 4},
]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: " ".join(changes))
def test_logits_are_those_of_the_plain_model(llama, sources, monkeypatch, changes):
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("somebody was asked"))
    change_config(llama, **changes)
    found, _ = hf_logits(llama, TOKENS, torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(sources / "llama").eval()
    with torch.no_grad():
        assert torch.equal(found, plain(TOKENS).logits)


def test_a_window_that_is_not_stated_is_the_classes_default(llama):
    config = json.loads((llama / "config.json").read_text())
    del config["max_position_embeddings"]
    (llama / "config.json").write_text(json.dumps(config))
    assert read_source(ImportOptions(hf_model=llama)).rope.window == 2048
    assert hf_logits(llama, TOKENS, torch.float32)[0].shape == (1, 24, 256)


def test_a_conversion_that_cannot_be_checked_stays(llama, tmp_path, monkeypatch):
    def cannot(*_):
        raise UncheckedError("--check: the logits are unchecked: no such kernel")

    monkeypatch.setattr(import_hf, "compare_logits", cannot)
    with pytest.raises(UncheckedError):
        import_model(ImportOptions(hf_model=llama, save=tmp_path / "m", check=True))
    assert (tmp_path / "m" / "release" / ".metadata").exists()
    change_config(llama, hidden_size=60)
    with pytest.raises(UncheckedError, match="transformers cannot load the model"):
        hf_logits(llama, TOKENS, torch.float32)
