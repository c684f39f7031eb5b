# SPDX-License-Identifier: Apache-2.0
"""The converters' --check: right models agree, damaged ones do not, and what else can go wrong."""

import functools
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from e2_common.disk.torch_dist_reader import TorchDistReader
from e2_common.errors import UserError
from e2_llm.window import with_rule, with_window
from e2_tools.checkpoint import compare_logits as module
from e2_tools.checkpoint.compare_logits import TooLittleMemory, compare_logits, prompts
from e2_tools.checkpoint.export import ExportOptions, export
from e2_tools.checkpoint.megatron_logits import megatron_logits
from tests.tools.checkpoint.conversions import convert

VOCAB, PADDED_VOCAB, WINDOW = 101, 128, 32  # of save_megatron_reference.py


@pytest.fixture(scope="module")
def exported(megatron) -> Path:
    """Served at twice the window, in bf16 although trained in fp32."""
    save = megatron / "hf"
    export(ExportOptions(load=megatron / "gqa", save=save, window=2 * WINDOW, dtype="bf16"))
    return save


@pytest.fixture(scope="module")
def evaluated():
    """``megatron_logits`` that runs the same request once."""

    @functools.cache
    def once(load, tokens, scale, frequencies, dtype):
        return megatron_logits(load, torch.tensor(tokens), scale, frequencies, dtype)

    return lambda load, tokens, scale, frequencies, dtype: once(
        load, tuple(map(tuple, tokens.tolist())), scale, frequencies, dtype
    )


@pytest.fixture
def hf(exported, evaluated, tmp_path, monkeypatch) -> Path:
    """A copy to damage, compared with Megatron's logits of the first comparison."""
    monkeypatch.setattr(module, "megatron_logits", evaluated)
    return Path(shutil.copytree(exported, tmp_path / "hf"))


@pytest.mark.parametrize(("name", "scale"), [("gqa", None), ("mha_tied", 2.0)])
def test_logits_are_those_that_megatron_had_when_it_saved(megatron, name, scale):
    reference = torch.load(megatron / name / "logits.pt")
    before = megatron_modules()
    logits = megatron_logits(megatron / name, reference["tokens"], scale)
    assert logits.shape == (1, reference["tokens"].size(1), PADDED_VOCAB)
    assert logits.dtype == torch.float32
    expected = reference["logits"][scale or 1]
    torch.testing.assert_close(logits[0], expected, atol=1e-4, rtol=0)
    assert megatron_modules() == before  # all of it was in another process


def test_the_same_model_agrees(megatron, hf, capsys):
    assert compare_logits(megatron / "gqa", hf, VOCAB) < 1e-4
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("check: 4 prompts, 256 tokens, largest difference of fp32 logits ")


def test_layers_without_rope_know_no_temperature(sources, tmp_path):
    """YaRN's factor multiplies what is rotated: in transformers, so in Megatron."""
    megatron = convert(sources / "smollm3", tmp_path / "megatron")
    hf = Path(shutil.copytree(sources / "smollm3", tmp_path / "hf"))
    config = json.loads((hf / "config.json").read_text())
    config = with_window(with_rule(config, "yarn"), 4 * config["max_position_embeddings"])
    (hf / "config.json").write_text(json.dumps(config))
    assert compare_logits(megatron, hf) < 1e-4


def test_swapped_rows_are_found(megatron, hf):
    name = "model.layers.1.self_attn.k_proj.weight"
    damage(hf, name, lambda rows: rows[[1, 0, *range(2, len(rows))]])
    with pytest.raises(UserError, match="--check: the model in Megatron is not the one in transf"):
        compare_logits(megatron / "gqa", hf)


def test_another_scale_is_found(megatron, hf, monkeypatch):
    monkeypatch.setattr(module, "serving_scale", lambda config: 2.0)
    path = hf / "config.json"
    config = json.loads(path.read_text())
    config["rope_parameters"]["factor"] = config["rope_scaling"]["factor"] = 2.1
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match="is not the one in transformers"):
        compare_logits(megatron / "gqa", hf)


def test_logits_that_are_not_finite(megatron, hf):
    damage(hf, "model.norm.weight", lambda weight: weight * torch.nan)
    with pytest.raises(UserError, match="not finite in transformers; did its training diverge"):
        compare_logits(megatron / "gqa", hf)


def test_a_missing_tensor(megatron, hf):
    path = hf / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.norm.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match="missing_keys: .*model.norm.weight"):
        compare_logits(megatron / "gqa", hf)


def test_too_little_memory_is_told_before_anything_is_loaded(megatron, hf, monkeypatch):
    reader = TorchDistReader(megatron / "gqa/iter_0000007")
    layer = 64 * 128 + 64 * 64 + 3 * 64 * 80 + 2 * 64  # query, key, value; output; MLP; norms
    assert module._parameters(reader) == 3 * layer + 64 + 2 * PADDED_VOCAB * 64
    monkeypatch.setattr(module, "_parameters", lambda reader: 7_000_000_000)
    monkeypatch.setattr(module, "free_memory", lambda: 12_000_000_000)
    monkeypatch.delattr(module, "load_hf")
    with pytest.raises(TooLittleMemory, match="needs 33.6 GB .* 12.0 GB are free, 21.6 GB too"):
        compare_logits(megatron / "gqa", hf)


def test_memory_of_this_machine():
    free = module.free_memory()
    assert free is None or 1e6 < free < 1e15


def test_a_checkpoint_that_megatron_cannot_run(megatron, tmp_path):
    load = Path(shutil.copytree(megatron / "gqa", tmp_path / "run"))
    reader = TorchDistReader(load / "iter_0000007")
    common = reader.common()
    common["args"].ffn_hidden_size = 96
    torch.save(common, reader.folder / "common.pt")
    with pytest.raises(UserError, match="--check: Megatron cannot run the checkpoint: .*linear_fc"):
        megatron_logits(load, torch.zeros(1, 4, dtype=torch.int64))


def test_prompts_of_a_tokenizer(tmp_path):
    words = {"[UNK]": 0, "the": 1, "return": 2, ",": 3, "in": 4, "village": 5}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(kind))
    tokens, lengths = prompts(tmp_path, vocab=5, window=16)
    assert tokens.shape == (4, 16)
    assert lengths.max() == 16
    assert lengths.min() < 16
    assert set(tokens.flatten().tolist()) == {0, 1, 2, 3, 4}  # 5 is beyond the vocabulary


def test_prompts_without_a_tokenizer(tmp_path):
    tokens, lengths = prompts(tmp_path, vocab=50, window=1000)
    assert tokens.shape == (4, 64)
    assert lengths.tolist() == [64] * 4
    assert tokens.max() < 50
    assert len(tokens.unique()) > 40
    assert torch.equal(tokens, prompts(tmp_path, vocab=50, window=1000)[0])


def megatron_modules() -> set[str]:
    return {name for name in sys.modules if name.split(".")[0] == "megatron"}


def damage(folder: Path, name: str, change) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors[name] = change(tensors[name]).contiguous()
    save_file(tensors, path, metadata={"format": "pt"})
