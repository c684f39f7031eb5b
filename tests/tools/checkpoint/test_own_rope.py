# SPDX-License-Identifier: Apache-2.0
"""A model with a RoPE scaling of its own, from Hugging Face to Megatron and back."""

import json

import pytest
from transformers import AutoConfig

from e2_common.disk.checkpoint_folder import find_iteration
from e2_common.disk.torch_dist_reader import TorchDistReader
from e2_common.errors import UserError
from e2_llm.arguments import own_rope
from e2_llm.frequencies import RULES, Llama3Scaling, OwnRope
from e2_llm.registry import METHODS
from e2_tools.checkpoint.export import ExportOptions, export
from e2_tools.checkpoint.import_hf import ImportOptions, import_model
from e2_tools.checkpoint.set_window import set_window
from tests.helpers.rules import settings_of
from tests.tools.checkpoint.conversions import change_config, convert, refuse
from tests.tools.checkpoint.megatron_save import QUIET, save_megatron, tiny_llama

pytestmark = QUIET
LLAMA3 = {**Llama3Scaling(32.0).to_hf(), "rope_theta": 500000.0}
OWN = OwnRope(500000.0, llama3=Llama3Scaling(32.0))


@pytest.fixture
def llama32(llama):
    """A tiny Llama with the RoPE and the window of Llama 3.2."""
    change_config(llama, rope_parameters=LLAMA3, max_position_embeddings=131072)
    return llama


def stored(folder):
    return TorchDistReader(find_iteration(folder)).common()["args"]


def rope_of(folder):
    return json.loads((folder / "config.json").read_text())["rope_parameters"]


def test_llama_32_is_a_starting_point(llama32, tmp_path, capsys):
    import_model(ImportOptions(hf_model=llama32, print_args=True))
    printed = capsys.readouterr().out.replace("\\\n", " ")
    assert "--use-rope-scaling" in printed
    assert "--rope-scaling-factor 32.0" in printed
    assert "--max-position-embeddings 131072" in printed
    megatron = convert(llama32, tmp_path / "m")
    assert "own llama3 scaling of factor 32" in capsys.readouterr().out
    assert own_rope(stored(megatron)) == OWN
    assert stored(megatron).max_position_embeddings == 131072
    export(ExportOptions(load=megatron, hf_model=llama32, save=tmp_path / "back"))
    assert "pre-trained at window" not in capsys.readouterr().out
    assert rope_of(tmp_path / "back") == LLAMA3
    # Another window, and what was exported is imported at the same RoPE again.
    set_window(tmp_path / "back", 2 * 131072)
    assert rope_of(tmp_path / "back")["rope_type"] == "longrope"
    AutoConfig.from_pretrained(tmp_path / "back")
    again = stored(convert(tmp_path / "back", tmp_path / "again"))
    assert own_rope(again) == OWN
    assert again.max_position_embeddings == 131072
    set_window(tmp_path / "back", 131072)
    assert rope_of(tmp_path / "back") == LLAMA3


def test_original_and_keep_are_still_there(llama32, tmp_path):
    args = stored(convert(llama32, tmp_path / "o", rope_scaling="original"))
    assert own_rope(args) == OwnRope(500000.0)
    assert args.max_position_embeddings == 8192
    args = stored(convert(llama32, tmp_path / "k", rope_scaling="keep"))
    assert own_rope(args) == OwnRope(500000.0)
    assert (args.position_method, args.e2_factor) == ("llama3", 32.0)


@pytest.mark.parametrize(
    "change",
    [
        {"low_freq_factor": 2.0},
        {"high_freq_factor": 8.0},
        {"original_max_position_embeddings": 4096},
    ],
    ids=str,
)
def test_what_megatron_has_not_built_in_needs_a_choice(llama32, tmp_path, change):
    change_config(llama32, rope_parameters={**LLAMA3, **change})
    refuse(llama32, tmp_path / "m", "--rope-scaling", "llama3", "original", "keep")


def test_yarn_without_rounding_is_kept_by_its_own_method(llama, tmp_path):
    yarn = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "truncate": False}
    yarn["original_max_position_embeddings"] = 64
    change_config(llama, rope_parameters=yarn, max_position_embeddings=256)
    megatron = convert(llama, tmp_path / "m", rope_scaling="keep")
    assert stored(megatron).position_method == "yarn-untruncated"
    export(ExportOptions(load=megatron, save=tmp_path / "back"))
    assert rope_of(tmp_path / "back") == yarn


FIXED = [name for name, method in METHODS.items() if "factor" in method.reads]


@pytest.mark.parametrize("method", FIXED)
def test_a_model_of_one_factor_comes_back_with_its_method(tmp_path, method):
    """Whatever fixed scaling a model was trained with, an import goes on with it."""
    rule = "gene" if "frequencies" in METHODS[method].reads else method
    extra = {"position_method": method, "e2_factor": 4.0, "e2_frequencies": "linear"}
    extra |= {"use_rope_scaling": True, "rope_scaling_factor": 16.0}
    if rule != method:
        extra["e2_frequencies"] = rule
    settings = {f"e2_{name}": value for name, value in settings_of(rule, 8).items()}
    load = save_megatron(tmp_path / "run", tiny_llama(), **extra, **settings)
    export(ExportOptions(load=load, save=tmp_path / "hf"))
    megatron = convert(tmp_path / "hf", tmp_path / "again")
    args = stored(megatron)
    assert (args.position_method, args.e2_factor) == (method, 4.0)
    if rule != method:
        assert args.e2_frequencies == rule
    assert own_rope(args) == own_rope(stored(load))
    export(ExportOptions(load=megatron, save=tmp_path / "hf2"))
    assert rope_of(tmp_path / "hf2") == rope_of(tmp_path / "hf")


def test_a_rule_that_nothing_serves_is_not_exported(tmp_path, monkeypatch):
    monkeypatch.setattr(type(RULES["ntk"]), "exportable", False, raising=False)
    load = save_megatron(tmp_path / "run", tiny_llama(), position_method="ntk", e2_factor=4.0)
    with pytest.raises(UserError, match="frequencies ntk, which no rope_type"):
        export(ExportOptions(load=load, save=tmp_path / "hf"))
    assert not (tmp_path / "hf").exists()


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_the_check_of_an_export_runs_the_same_model(tmp_path, rule):
    """Megatron in a process of its own, at the scale that was exported."""
    settings = {f"e2_{name}": value for name, value in settings_of(rule, 8).items()}
    extra = {"use_rope_scaling": True, "rope_scaling_factor": 32.0, "e2_frequencies": rule}
    load = save_megatron(tmp_path / "run", tiny_llama(), **extra, **settings)
    export(ExportOptions(load=load, save=tmp_path / "hf", window=96, check=True))


@pytest.mark.slow
@pytest.mark.parametrize("window", [131072, 3 * 131072])
def test_the_check_of_an_import_runs_the_same_model(llama32, tmp_path, window):
    """Also of an export, from which E2 would start again, at the window that it serves."""
    megatron = convert(llama32, tmp_path / "m", check=True)
    export(ExportOptions(load=megatron, save=tmp_path / "hf", window=window))
    convert(tmp_path / "hf", tmp_path / "again", check=True)
