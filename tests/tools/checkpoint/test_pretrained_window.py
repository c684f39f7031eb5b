# SPDX-License-Identifier: Apache-2.0
"""L of models whose RoPE is scaled already: decided, asked about, and the same everywhere.

The reference is transformers: a small model with the model's own config.json.
"""

import json
import shutil
from argparse import Namespace

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

from e2_common.errors import UserError
from e2_llm.window import base_window, own_rope, scale_for
from e2_tools.checkpoint.export import ExportOptions, export
from e2_tools.checkpoint.import_hf import ImportOptions, read_source
from e2_tools.checkpoint.pretrained_window import pretrained
from e2_tools.checkpoint.set_window import set_window
from e2_tools.commands.convert_hf_to_megatron import main as convert_command
from e2_tools.commands.set_window import main as set_window_command
from e2_tools.evaluation.model import config_of as config_of_model
from e2_tools.evaluation.model import load_config
from tests.helpers.commands import call
from tests.helpers.pretrained import PRETRAINED, UNDECIDED, linear, write_config
from tests.tools.checkpoint.conversions import convert

POSITIONS = torch.tensor([[0, 1, 5, 6, 40, 63]])


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def logits(config, positions):
    """Of a model of the config.json with fixed random weights [1, s, vocabulary]."""
    theirs = CONFIG_MAPPING[config["model_type"]].from_dict(json.loads(json.dumps(config)))
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(theirs).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter.data, mean=0.5 * (parameter.dim() == 1), std=0.2)
    tokens = torch.arange(positions.size(1))[None]
    with torch.inference_mode():
        return model(
            input_ids=tokens, position_ids=positions, attention_mask=torch.ones_like(tokens)
        ).logits


@pytest.mark.parametrize("name", PRETRAINED)
def test_import_evaluation_and_set_window_read_one_model(tmp_path, name):
    raw, limit, window, factor = PRETRAINED[name]
    folder = write_config(tmp_path / "model", raw, limit)
    source = read_source(ImportOptions(hf_model=folder, full_attention=True)).rope
    read = pretrained(load_config(folder), folder).config
    assert source.window == base_window(read) == window
    assert source.own == own_rope(read)
    assert source.own.factor == factor
    # As it is, at L, at 2 L, and back: what transformers computes.
    before = logits(config_of(folder), POSITIONS)
    set_window(folder, window)
    assert config_of(folder)["max_position_embeddings"] == window
    torch.testing.assert_close(logits(config_of(folder), POSITIONS), before)
    set_window(folder, 2 * window)
    written = config_of(folder)
    assert written["max_position_embeddings"] == 2 * window
    torch.testing.assert_close(logits(written, 2 * POSITIONS), before, rtol=1e-3, atol=1e-3)
    assert (logits(written, POSITIONS) - before).abs().max() > 0.1
    if source.own.llama3 is None:
        assert written["rope_parameters"]["factor"] == 2 * factor
    # What was written remembers L, and a run starts from it again.
    again = read_source(ImportOptions(hf_model=folder, full_attention=True)).rope
    assert (again.window, again.own) == (source.window, source.own)
    set_window(folder, window)
    torch.testing.assert_close(logits(config_of(folder), POSITIONS), before)


def test_both_readings_are_told_and_overruled(tmp_path, capsys):
    raw, limit, window, factor = PRETRAINED["vicuna-7b-v1.5-16k"]
    folder = write_config(tmp_path / "model", raw, limit)
    read_source(ImportOptions(hf_model=folder))
    told = capsys.readouterr().err
    for word in ("L is read as 16384 (by max_sequence_length)", "4096", "--base-window"):
        assert word in told
    assert "L is read as 16384" in set_window(folder, 32768, dry_run=True)
    source = read_source(ImportOptions(hf_model=folder, base_window=4096)).rope
    assert (source.window, source.own.factor) == (4096, factor)
    assert "read as" not in capsys.readouterr().err
    set_window(folder, 16384, base_window=4096)
    assert config_of(folder)["rope_parameters"]["factor"] == 16.0
    with pytest.raises(UserError, match="e2_llm in config.json says L = 4096"):
        set_window(folder, 16384, base_window=16384)
    for wrong in (0, -1, 10**9):
        with pytest.raises(UserError, match="--base-window"):
            read_source(ImportOptions(hf_model=folder, base_window=wrong))


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_cannot_be_decided_is_asked(tmp_path, name):
    raw, limit = UNDECIDED[name]
    folder = write_config(tmp_path / "model", raw, limit)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for run in (
        lambda **flags: read_source(ImportOptions(hf_model=folder, **flags)),
        lambda **flags: set_window(folder, 131072, **flags),
    ):
        with pytest.raises(UserError, match="--base-window") as error:
            run()
        assert "\n" not in str(error.value)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    source = read_source(ImportOptions(hf_model=folder, base_window=32768)).rope
    assert source.window == 32768
    set_window(folder, 131072, base_window=32768)
    assert config_of(folder)["e2_llm"]["base_window"] == 32768


def test_evaluation_asks_too(tmp_path, capsys):
    def read(folder, scale):
        given = {"frequencies": None, "dtype": "fp32", "device": "cpu"}
        return config_of_model(Namespace(model=folder, scale=scale, **given))

    raw, limit = UNDECIDED["LongLoRA without a tokenizer"]
    folder = write_config(tmp_path / "undecided", raw, limit)
    for scale in ("auto", 2.0):
        with pytest.raises(UserError, match="L cannot be decided"):
            read(folder, scale)
    assert read(folder, "none")["max_position_embeddings"] == 4096
    raw, limit, window, _ = PRETRAINED["LongAlpaca-7B-16k"]
    folder = write_config(tmp_path / "decided", raw, limit)
    config = read(folder, "auto")
    assert (base_window(config), scale_for(config, 4096)) == (window, 1.0)
    assert "L is read as 16384" in capsys.readouterr().err


def test_the_commands_take_the_flag(tmp_path, capsys):
    folder = write_config(tmp_path / "model", linear(8.0, max_position_embeddings=4096))
    flags = ("--hf-model", folder, "--print-args", "--base-window", 32768)
    call(convert_command, *flags)
    assert "--max-position-embeddings 32768" in capsys.readouterr().out
    call(set_window_command, folder, "--window", 65536, "--base-window", 32768)
    assert config_of(folder)["rope_parameters"]["factor"] == 16.0


WRONG = ["x", 0, -1.0, [1], {"a": {}}, True, float("inf")]


@pytest.mark.parametrize("value", WRONG, ids=str)
@pytest.mark.parametrize("key", ["rope_theta", "factor", "max_position_embeddings"])
def test_wrong_values_are_one_line(tmp_path, key, value):
    raw = linear(2.0, max_position_embeddings=4096, rope_theta=10000.0)
    (raw["rope_scaling"] if key == "factor" else raw)[key] = value
    folder = write_config(tmp_path / "model", raw)
    before = (folder / "config.json").read_bytes()
    for run in (
        lambda: read_source(ImportOptions(hf_model=folder)),
        lambda: set_window(folder, 131072),
    ):
        with pytest.raises(UserError) as error:
            run()
        assert "\n" not in str(error.value)
    assert (folder / "config.json").read_bytes() == before


QWEN = {"model_type": "qwen2", "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}


def test_rope_scaling_beside_rope_parameters_is_read_as_transformers_does(tmp_path, capsys):
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    folder = write_config(tmp_path / "yarn", {**QWEN, "rope_scaling": yarn})
    with pytest.raises(UserError, match="'yarn' cannot be rescaled"):
        set_window(folder, 65536)
    with pytest.raises(UserError, match="scaled \\(yarn, factor 4"):
        read_source(ImportOptions(hf_model=folder))
    source = read_source(ImportOptions(hf_model=folder, rope_scaling="keep")).rope
    assert (source.window, source.own.theta) == (32768, 10000.0)
    assert "the base is 10000 and not 1e+06" in capsys.readouterr().err
    for more, theta in (({}, 10000.0), ({"rope_theta": 5e5}, 5e5)):
        by_hand = {**QWEN, **linear(2.0, max_position_embeddings=32768), **more}
        folder = write_config(tmp_path / f"{theta}", by_hand)
        before = logits(config_of(folder), POSITIONS)
        assert f"{theta:g}" in set_window(folder, 32768)
        assert config_of(folder)["rope_parameters"]["rope_theta"] == theta
        torch.testing.assert_close(logits(config_of(folder), POSITIONS), before)


# --- sliding windows ---

SLIDING = {
    "Mistral-7B-v0.1": ("mistral", 32768, {"sliding_window": 4096}, 4096),
    "Yarn-Mistral's kind": ("mistral", 128, {"sliding_window": 512}, 128),
    "Mistral's default": ("mistral", 32768, {}, 4096),
    "some layers": ("qwen2", 8192, {"use_sliding_window": True, "sliding_window": 1024,
                                    "max_window_layers": 1}, 1024),
    "layers named": ("qwen3", 8192, {"use_sliding_window": True, "sliding_window": 1024,
                                     "layer_types": ["full_attention", "sliding_attention"]}, 1024),
}  # fmt: skip
NOT_SLIDING = {
    "a Llama": ("llama", {"sliding_window": 16}),
    "a Mistral": ("mistral", {"sliding_window": None}),
    "off": ("qwen2", {"use_sliding_window": False, "sliding_window": 1024}),
    "no layer left": ("qwen2", {"use_sliding_window": True, "sliding_window": 1024}),
    "no layer named": ("qwen3", {"use_sliding_window": True, "sliding_window": 1024,
                                 "layer_types": ["full_attention"] * 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", SLIDING)
def test_a_sliding_window_in_effect_is_the_smaller_l(tmp_path, name):
    kind, positions, more, window = SLIDING[name]
    raw = {"model_type": kind, "max_position_embeddings": positions, **more}
    folder = write_config(tmp_path / "model", raw)
    with pytest.raises(UserError, match="--full-attention"):
        read_source(ImportOptions(hf_model=folder))
    source = read_source(ImportOptions(hf_model=folder, full_attention=True))
    assert source.rope.window == window
    asked = ImportOptions(hf_model=folder, full_attention=True, base_window=100)
    assert read_source(asked).rope.window == 100


@pytest.mark.parametrize("full_attention", [False, True])
@pytest.mark.parametrize("name", NOT_SLIDING)
def test_a_sliding_window_that_transformers_ignores_is_ignored(tmp_path, name, full_attention):
    kind, more = NOT_SLIDING[name]
    raw = {"model_type": kind, "max_position_embeddings": 8192, **more}
    folder = write_config(tmp_path / "model", raw)
    source = read_source(ImportOptions(hf_model=folder, full_attention=full_attention))
    assert source.rope.window == 8192


@pytest.mark.parametrize("name", ["mistral", "qwen3"])
def test_the_export_of_a_sliding_model_sees_everything(sources, tmp_path, name):
    """As transformers reads it, whether the keys stood in the source or were its defaults."""
    source = shutil.copytree(sources / name, tmp_path / "source")
    config = config_of(source)
    config.pop("sliding_window", None)
    if name == "qwen3":
        kinds = ["full_attention"] * 3 + ["sliding_attention"]
        config |= {"use_sliding_window": True, "sliding_window": 16, "layer_types": kinds}
    (source / "config.json").write_text(json.dumps(config))
    megatron = convert(source, tmp_path / "megatron", full_attention=True)
    export(ExportOptions(load=megatron, hf_model=source, save=tmp_path / "hf"))
    back = AutoConfig.from_pretrained(tmp_path / "hf")
    assert back.sliding_window is None
    assert "sliding_attention" not in (getattr(back, "layer_types", None) or ())
    assert back.max_position_embeddings == (16 if name == "qwen3" else 64)


def test_a_kept_scaling_is_not_cut_by_a_sliding_window(tmp_path):
    yarn = {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192}
    raw = {"model_type": "mistral", "max_position_embeddings": 32768, "rope_scaling": yarn}
    flags = {"full_attention": True, "rope_scaling": "keep"}
    folder = write_config(tmp_path / "model", {**raw, "sliding_window": 65536})
    assert read_source(ImportOptions(hf_model=folder, **flags)).rope.window == 8192
    with pytest.raises(UserError, match="--base-window 4096: the scaling counts from 8192"):
        read_source(ImportOptions(hf_model=folder, base_window=4096, **flags))
    folder = write_config(tmp_path / "model", {**raw, "sliding_window": 4096})
    with pytest.raises(UserError, match="--rope-scaling original"):
        read_source(ImportOptions(hf_model=folder, **flags))
    flags["rope_scaling"] = "original"
    assert read_source(ImportOptions(hf_model=folder, **flags)).rope.window == 4096


# --- which models set_window knows ---

NOT_KNOWN = {
    "bert": {}, "opt": {}, "bloom": {}, "mpt": {}, "gpt2": {}, "falcon": {"alibi": True},
    "modernbert": {}, "gemma3_text": {"rope_theta": 1e6, "rope_local_base_freq": 10000.0},
    "gpt_neox": {}, "phi": {}, "olmo3": {}, "qwen2_vl": {}, "no_such_model": {},
}  # fmt: skip
KNOWN = {
    **{"mixtral": 1e6, "falcon": 10000.0, "gemma2": 10000.0, "cohere": 500000.0, "olmo2": 10000.0},
    **{"qwen3_moe": 10000.0, "smollm3": 2000000.0},
}


@pytest.mark.parametrize("kind", NOT_KNOWN)
def test_a_model_whose_config_cannot_scale_it_is_refused(tmp_path, kind):
    raw = {"model_type": kind, "max_position_embeddings": 2048, **NOT_KNOWN[kind]}
    folder = write_config(tmp_path / "model", raw)
    before = (folder / "config.json").read_bytes()
    with pytest.raises(UserError) as error:
        set_window(folder, 8192)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    assert (folder / "config.json").read_bytes() == before


@pytest.mark.parametrize("kind", KNOWN)
def test_other_models_keep_the_base_of_their_type(tmp_path, kind):
    raw = {"model_type": kind, "max_position_embeddings": 2048}
    raw |= {"num_local_experts": 2, "num_experts": 2, "num_experts_per_tok": 1}
    folder = write_config(tmp_path / "model", raw)
    set_window(folder, 8192)
    written = config_of(folder)
    assert written["rope_parameters"]["rope_theta"] == KNOWN[kind]
    theirs = CONFIG_MAPPING[kind].from_dict(written)
    assert theirs.rope_parameters["rope_theta"] == KNOWN[kind]
    assert theirs.rope_parameters["factor"] == 4.0


def test_a_partial_rotary_is_refused(tmp_path):
    folder = write_config(tmp_path / "model", {"partial_rotary_factor": 0.5})
    with pytest.raises(UserError, match="a part of each head"):
        set_window(folder, 8192)
    with pytest.raises(UserError, match="a part of each head"):
        read_source(ImportOptions(hf_model=folder))
