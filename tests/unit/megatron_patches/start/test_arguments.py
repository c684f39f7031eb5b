# SPDX-License-Identifier: Apache-2.0
"""No argument of Megatron's is accepted and ignored, and docs/arguments.md says so of each."""

import ast
import dataclasses
import inspect

import pytest

from benchmarks.arguments.page import OWN_TESTS, PAGE, page
from benchmarks.arguments.table import (
    HONOURED,
    NEEDS_TE,
    REFUSED,
    UNKNOWN,
    megatron_parser,
    read_somewhere,
    rows,
)
from megatron_patches.start import owners, refused
from megatron_patches.start.refused import flags_of
from megatron_patches.start.refused_tables import ALWAYS, GROUPS, KEPT, LOCAL_LAYERS, NO_EFFECT
from tests.helpers import ROOT

# What pretrain_gpt.py, gpt_builders.py and model_provider.py of Megatron-LM core_v0.19.0 read of
# the arguments, and pretrain_e2.py does not. They are not in the package.
UPSTREAMS_SCRIPT = frozenset(
    """
    dataloader_inter_document_masking experimental_attention_variant fim_data fim_eod_token
    fim_fragment_rate fim_middle_token fim_no_prefix fim_pad_token fim_prefix_token fim_rate
    fim_split_sample fim_spm_rate fim_suffix_token fp16_lm_cross_entropy
    heterogeneous_layers_config_path hybrid_context_parallel logits_load_decode_threads
    logits_load_dir logits_load_ignore_errors logits_load_kd_loss_alpha
    logits_load_msc_prefetch_depth logits_load_prefetch_factor memory_snapshot_path mtp_num_layers
    overlap_moe_expert_parallel_comm per_dataset_sequences_path qk_l2_norm record_memory_history
    rotary_percent sft untie_embeddings_and_output_weights use_rope_scaling yaml_cfg
    """.split()
)
# Of these ``pretrain`` itself does the work.
BY_PRETRAIN = {"memory_snapshot_path", "record_memory_history"}
# Megatron's attention reads them to choose how to compute the same numbers; ours sees the numbers
# of heads in its inputs.
SAME_NUMBERS = {"apply_query_key_layer_scaling", "attention_softmax_in_fp32"}
SAME_NUMBERS |= {"masked_softmax_fusion", "fp16", "bf16", "params_dtype", "perform_initialization"}
SAME_NUMBERS |= {"num_attention_heads", "num_query_groups"}


@pytest.fixture(scope="module")
def parser():
    return megatron_parser()


@pytest.fixture
def fates(parser):
    return {row.dest: row.fate for found in rows(parser).values() for row in found}


def test_what_is_not_refused_is_read(fates):
    assert len(fates) > 700
    assert [name for name, fate in fates.items() if fate == UNKNOWN] == []


def test_an_argument_that_nothing_reads_is_found(parser, monkeypatch):
    for table, name in (
        (ALWAYS, "fim_data"),
        (ALWAYS, "rampup_batch_size"),
        (NO_EFFECT, "onnx_safe"),
    ):
        monkeypatch.delitem(table, name)
    monkeypatch.delitem(GROUPS, "biencoder")
    found = rows(parser)
    unknown = {row.dest for group in found.values() for row in group if row.fate == UNKNOWN}
    assert unknown == {"fim_data", "rampup_batch_size", "onnx_safe"} | {
        row.dest for row in found["biencoder"]
    }


def test_the_page_is_what_the_command_makes():
    """If not: python -m benchmarks.arguments.page --write"""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_named_test_of_an_argument_is_there(fates):
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(OWN_TESTS.values()) <= there
    assert {name for name in OWN_TESTS if fates[name] != HONOURED} == set()


def test_no_entry_is_about_an_argument_that_is_gone(parser):
    names, groups = flags_of(parser), {group.title for group in parser._action_groups}
    for entry in (*ALWAYS, *LOCAL_LAYERS, *NO_EFFECT, *KEPT):
        entry = entry.partition("=")[0]
        assert any(
            name == entry or (entry.endswith("*") and name.startswith(entry[:-1])) for name in names
        ), entry
    assert set(GROUPS) <= groups
    for owner in owners.OWNERS:
        for pattern in owner.owned:
            assert any(refused.matches(pattern, name) for name in names), pattern


def test_what_only_upstreams_script_reads_is_refused(fates):
    from megatron_patches.checkpoint.model_fields import fed_to_models

    by_the_model = fed_to_models(fates)
    ignored = UPSTREAMS_SCRIPT - BY_PRETRAIN - by_the_model
    assert ignored > {"sft", "fim_data", "logits_load_dir"}
    read = {name for name in ignored if fates[name] != REFUSED}
    # One that this program has come to read itself is no longer ignored.
    assert all(read_somewhere()[name].startswith("megatron_patches.") for name in read), read


def test_what_a_dataset_can_be_told_is_told_or_refused(fates):
    from megatron.core.datasets.gpt_dataset import GPTDatasetConfig

    from megatron_patches.data import datasets

    arguments = {
        "inter_document_masking": "dataloader_inter_document_masking",
        "sequences_per_dataset": "per_dataset_sequences_path",
    }
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(datasets.dataset_config)))
             if isinstance(node, ast.Call)]  # fmt: skip
    told = {keyword.arg for call in calls for keyword in call.keywords}
    untold = {field.name for field in dataclasses.fields(GPTDatasetConfig) if field.init} - told
    assert "hybrid_context_parallel" in untold
    for field in untold:
        name = arguments.get(field, field)
        assert fates.get(name, REFUSED) == REFUSED, name


def configuration_reads(*functions, owners=("config", "transformer_cfg", "transformer")):
    """What functions or classes read of a configuration, by name."""
    nodes = [
        node for function in functions for node in ast.walk(ast.parse(inspect.getsource(function)))
    ]
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and getattr(node.value, "attr", getattr(node.value, "id", "")) in owners
    }


def test_what_megatrons_attention_reads_ours_reads_or_it_is_refused(fates):
    from megatron.core.transformer.dot_product_attention import DotProductAttention

    from megatron_patches.kernels.attention import SDPACoreAttention

    ignored = configuration_reads(DotProductAttention) - configuration_reads(SDPACoreAttention)
    ignored &= set(fates)
    assert "window_attn_skip_freq" in ignored
    assert {name for name in ignored if fates[name] != NEEDS_TE} <= SAME_NUMBERS


def test_what_megatrons_choice_of_layers_reads_is_built_or_refused(fates):
    """Ours leaves the building to a function of Megatron's that is given the configuration."""
    from megatron.core.models.gpt import gpt_layer_specs
    from megatron.training.models import gpt

    from megatron_patches.model import build

    theirs = configuration_reads(gpt.default_layer_spec, gpt._te_or_local_layer_spec)
    ours = configuration_reads(
        build.layer_spec,
        build.megatron_local_block_spec,
        gpt_layer_specs.get_gpt_decoder_layer_specs,
    )
    aliases = {"num_moe_experts": "num_experts"}
    ignored = {aliases.get(name, name) for name in theirs - ours} & set(fates)
    assert "moe_layer_freq" in ours
    assert "qk_l2_norm" in ours
    assert {name for name in ignored if fates[name] not in (NEEDS_TE, REFUSED)} == set()
