# SPDX-License-Identifier: Apache-2.0
"""Every key that transformers' code reads has a fate, and those with an effect are refused."""

import ast
from pathlib import Path

import pytest
import transformers

from benchmarks.config_keys import PAGE, filled
from e2_common.errors import UserError
from e2_tools.checkpoint.config_keys import (
    DROPPED,
    REFUSED,
    SILENT,
    dropped_note,
    fields,
    require_understood,
    understood,
)
from e2_tools.checkpoint.config_types import check_types
from e2_tools.checkpoint.families import FAMILIES

LIBRARY = Path(transformers.__file__).parent
COMMON = (
    *("modeling_rope_utils.py", "masking_utils.py", "cache_utils.py", "modeling_utils.py"),
    *("configuration_utils.py", "models/auto/configuration_auto.py", "quantizers/auto.py"),
)

CONFIGS = ("config", "text_config", "layer_config", "effective_config")  # as the code calls them


def keys_read(path):
    """Names that code reads of something called a config, by attribute or by getattr."""

    def is_config(node):
        name = getattr(node, "attr", getattr(node, "id", ""))
        return name in CONFIGS

    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and is_config(node.value):
            found.add(node.attr)
        asks = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr")
        if asks and is_config(node.args[0]) and isinstance(node.args[1], ast.Constant):
            found.add(node.args[1].value)
    return found


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.title)
def test_every_key_that_the_code_reads_has_a_fate(family):
    kind = family.model_type
    paths = [f"models/{kind}/modeling_{kind}.py", *COMMON]
    read = set().union(*(keys_read(LIBRARY / path) for path in paths))
    assert {"rope_parameters", "sliding_window", "is_causal", "transformers_weights"} <= read
    config = transformers.CONFIG_MAPPING[kind]
    made = {name for name in read if name.startswith("__") or hasattr(config, name)}
    made -= set(fields(family))  # of the class itself: methods, and what transformers computes
    known = set().union(*map(fields, FAMILIES.values()), REFUSED, DROPPED, SILENT, made)
    assert sorted(read - known) == []


def test_the_page_is_up_to_date():
    """If not: python -m benchmarks.config_keys --write"""
    text = PAGE.read_text(encoding="utf-8")
    assert filled(text) == text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"is_causal": False}, "is_causal is False"),
        ({"dual_chunk_attention_config": {"chunk_size": 8}}, "original_max_position_embeddings"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"transformers_weights": "other.safetensors"}, "another file of weights"),
        ({"per_layer_config": {"0": {"intermediate_size": 8}}}, "per_layer_config"),
        ({"rope_parameters": {"mrope_section": [2, 2]}}, "rope_parameters.mrope_section"),
        ({"rope_scaling": {"type": "linear", "use_fope": True}}, "rope_scaling.use_fope"),
        ({"logit_scale": 0.5, "scale_emb": 12}, "logit_scale is 0.5"),
        ({"text_config": {"hidden_size": 8}}, "text_config"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForCausalLM is supported"),
        ({"architectures": ["LlamaBidirectionalModel"]}, "LlamaForCausalLM is supported"),
    ],
)
def test_what_asks_for_another_computation_is_refused(changes, words):
    with pytest.raises(UserError, match=f"^c.json: .*{words}"):
        require_understood({"model_type": "llama"} | changes, FAMILIES["llama"], "c.json")


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.title)
def test_plain_values_and_null_ask_for_nothing(family):
    for plain in (True, False):
        config = {
            name: rule.plain[-1] if plain and rule.plain else None for name, rule in REFUSED.items()
        }
        require_understood(config, family, "c.json")
        assert set(understood(config, family)) <= fields(family)
        assert dropped_note(config, family, "c.json") is None


def test_every_other_key_is_left_out_and_named():
    config = {"hidden_size": 8, "auto_map": {"AutoConfig": "x.Y"}, "sliding_window": 16}
    config |= {"custom": 1, "_name_or_path": "x", "empty": None}
    assert understood(config, FAMILIES["llama"]) == {"hidden_size": 8}
    note = dropped_note(config, FAMILIES["llama"], "c.json")
    code = "auto_map (code of the model's own, which is never run)"
    assert note == f"c.json: left out: {code}, sliding_window, custom"
    assert "sliding_window" in understood(config, FAMILIES["mistral"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocab_size": True}, "vocab_size is True, a whole number from 1 is needed"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"hidden_size": 10**400}, "hidden_size is 1000"),
        ({"max_position_embeddings": 64.0}, "max_position_embeddings is 64.0"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan, a number above 0"),
        ({"rope_parameters": 5}, "rope_parameters is 5, an object"),
        ({"rope_scaling": {"factor": 0}}, "rope_scaling.factor is 0"),
        ({"rope_scaling": {"full_attention": {"factor": "x"}}}, "rope_scaling.full_attention.f"),
        ({"e2_llm": "x"}, "e2_llm is 'x', an object"),
        ({"model_type": ["llama"]}, "model_type is"),
        ({"architectures": "LlamaForCausalLM"}, "a list of strings"),
        ({"eos_token_id": [1, "x"]}, "eos_token_id"),
        ({"vocab_size": "x", "hidden_size": "y"}, "vocab_size is 'x'.*; hidden_size is 'y'"),
    ],
)
def test_wrong_types_are_all_named(changes, words):
    with pytest.raises(UserError, match=f"^c.json: .*{words}") as error:
        check_types(changes, "c.json")
    assert len(str(error.value)) < 300
    check_types(dict.fromkeys(changes), "c.json")  # null is as good as no key
