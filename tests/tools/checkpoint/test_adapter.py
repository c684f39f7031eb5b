# SPDX-License-Identifier: Apache-2.0
"""A LoRA merged on the way to Megatron: the bytes that PEFT's own merge gives, or a refusal."""

import json
import shutil

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from e2_tools.checkpoint.export import ExportOptions, export
from tests.helpers.families import make_model
from tests.tools.checkpoint.conversions import assert_same_bytes, convert, refuse, tensors

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
KINDS = {
    "attention": {"target_modules": ATTENTION},
    "every linear module, rsLoRA": {"target_modules": "all-linear", "use_rslora": True},
    "ranks and alphas by pattern": {
        "target_modules": ATTENTION,
        "rank_pattern": {"q_proj": 5, r"layers\.1\.self_attn\.v_proj": 3},
        "alpha_pattern": {"layers.0.self_attn.k_proj": 7, "o_proj": 1},
    },
    "some layers": {"target_modules": ["down_proj"], "layers_to_transform": [1, 3]},
    "LongLoRA's advice": {"target_modules": ATTENTION, "modules_to_save": ["embed_tokens", "norm"]},
    "an embedding": {"target_modules": ["embed_tokens", "lm_head", "up_proj"]},
}


def adapt(source, target, dtype=torch.float32, **config):
    """Save a random LoRA of a model; return the folder of what PEFT's own merge makes of it."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    adapted = peft.get_peft_model(model, peft.LoraConfig(**{"r": 4, "lora_alpha": 6} | config))
    torch.manual_seed(3)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter.data, std=0.1)
    adapted.save_pretrained(target)
    fresh = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    merged = peft.PeftModel.from_pretrained(fresh, target).merge_and_unload()
    merged.save_pretrained(f"{target}-merged")
    return target.with_name(f"{target.name}-merged")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_merged_bytes_are_those_of_peft(tmp_path, kind, dtype):
    source = tmp_path / "base"
    make_model("llama", dtype).save_pretrained(source)
    merged = adapt(source, tmp_path / "lora", dtype, **KINDS[kind])
    megatron = convert(source, tmp_path / "megatron", adapter=tmp_path / "lora")
    export(ExportOptions(load=megatron, hf_model=source, save=tmp_path / "back"))
    assert_same_bytes(tensors(merged), tensors(tmp_path / "back"))
    changed = [n for n, t in tensors(source).items() if not t.equal(tensors(merged)[n])]
    assert changed


def test_a_bias_that_the_adapter_holds_takes_the_place_of_the_models(sources, tmp_path):
    merged = adapt(sources / "qwen2", tmp_path / "lora", target_modules=["q_proj"], bias="all")
    megatron = convert(sources / "qwen2", tmp_path / "megatron", adapter=tmp_path / "lora")
    export(ExportOptions(load=megatron, hf_model=sources / "qwen2", save=tmp_path / "back"))
    expected = tensors(merged)
    expected.pop("lm_head.weight", None)  # tied
    assert_same_bytes(expected, tensors(tmp_path / "back"))


def test_the_check_compares_with_pefts_merge(sources, tmp_path, capsys):
    adapt(sources / "llama", tmp_path / "lora", target_modules=ATTENTION)
    convert(sources / "llama", tmp_path / "m", adapter=tmp_path / "lora", check=True)
    assert "check: 4 prompts" in capsys.readouterr().out


# --- refusals ---


@pytest.fixture(scope="module")
def lora(sources, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter") / "lora"
    adapt(sources / "llama", folder, target_modules=ATTENTION)
    return folder


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"peft_type": None}, "peft_type is None"),
        ({"use_dora": True}, "use_dora true"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"layer_replication": [[0, 2], [1, 4]]}, "layer_replication"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
        ({"a_key_of_next_year": {"scale": 3}}, "a_key_of_next_year"),
        ({"lora_alpha": "many"}, "lora_alpha"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"alpha_pattern": 5}, "alpha_pattern"),
        ({"alpha_pattern": {"q_proj": "x"}}, "alpha_pattern"),
        ({"alpha_pattern": {"(": 2}}, "alpha_pattern"),
    ],
)
def test_what_is_more_than_a_product_is_refused(sources, lora, tmp_path, change, word):
    broken = shutil.copytree(lora, tmp_path / "lora")
    path = broken / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refuse(sources / "llama", tmp_path / "out", "adapter_config.json", word, adapter=broken)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.popitem(), ("is missing",)),
        (lambda t: t.update({"base_model.model.model.norm.weight": torch.ones(63)}), ("norm",)),
        (lambda t: t.update({"base_model.model.x.lora_A.weight": torch.ones(4, 4)}), ("belong",)),
        (lambda t: t.update({"odd": torch.ones(1)}), ("odd", "belong to no weight")),
        (lambda t: t.update({next(iter(t)): torch.ones(4, 63)}), ("does not fit",)),
        (lambda t: t.update({next(iter(t)): torch.ones(4)}), ("does not fit",)),
    ],
)
def test_tensors_that_do_not_fit_are_refused(sources, lora, tmp_path, change, words):
    broken = shutil.copytree(lora, tmp_path / "lora")
    path = broken / "adapter_model.safetensors"
    found = load_file(path)
    change(found)
    save_file(found, path)
    refuse(sources / "llama", tmp_path / "out", str(broken), *words, adapter=broken)


def test_other_folders_are_refused(sources, lora, tmp_path):
    refuse(sources / "qwen3", tmp_path / "out", str(lora), adapter=lora)
    refuse(sources / "llama", tmp_path / "out", "no such folder", adapter=tmp_path / "none")
    refuse(sources / "llama", tmp_path / "out", "adapter_config.json", adapter=sources / "llama")
    (shutil.copytree(lora, tmp_path / "l") / "adapter_model.safetensors").write_bytes(b"12345678")
    refuse(sources / "llama", tmp_path / "out", "corrupt", adapter=tmp_path / "l")


def test_a_tied_matrix_is_not_changed_at_one_end(sources, tmp_path):
    adapt(sources / "smollm2", tmp_path / "lora", target_modules=["q_proj", "embed_tokens"])
    refuse(sources / "smollm2", tmp_path / "out", "tie_word_embeddings", adapter=tmp_path / "lora")
