# SPDX-License-Identifier: Apache-2.0
"""Files of weights: those that transformers loads, and a word on those that are no weights."""

import collections
import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from e2_common.errors import UserError
from e2_tools.checkpoint.hf_reader import HFReader
from e2_tools.checkpoint.import_hf import ImportOptions, import_model
from tests.tools.checkpoint.conversions import change_config, refuse


class Hostile:
    """Would write a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def weights(llama):
    """The tensors of a model whose own file is gone."""
    content = load_file(llama / "model.safetensors")
    (llama / "model.safetensors").unlink()
    return content


def save_index(folder, file, names):
    content = {"metadata": {}, "weight_map": dict.fromkeys(names, file)}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(content))


def test_a_file_beside_an_index_is_read_as_transformers_does(llama, weights):
    torch.save(weights, llama / "pytorch_model.bin")
    other = {name: tensor + 1 for name, tensor in weights.items()}
    torch.save(other, llama / "pytorch_model-00001-of-00001.bin")
    save_index(llama, "pytorch_model-00001-of-00001.bin", weights)
    reader = HFReader(llama)
    theirs = AutoModelForCausalLM.from_pretrained(llama).state_dict()
    for name in weights:
        assert torch.equal(reader.read(name), theirs[name])


KINDS = (torch.int8, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2, torch.int32, torch.bool)


@pytest.mark.parametrize("dtype", KINDS, ids=str)
@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_numbers_that_are_no_weights(llama, weights, tmp_path, dtype, kind):
    weights["model.norm.weight"] = weights["model.norm.weight"].to(dtype)
    if kind == "bin":
        torch.save(weights, llama / "pytorch_model.bin")
    else:
        save_file(weights, llama / "model.safetensors", metadata={"format": "pt"})
    words = ("model.norm.weight holds", "not weights")
    refuse(llama, tmp_path / "m", *words)
    change_config(llama, quantization_config={"quant_method": "fp8"})
    refuse(llama, tmp_path / "m", *words, "quantised (fp8): convert the one that it was made from")
    with pytest.raises(UserError, match="fp8"):
        import_model(ImportOptions(hf_model=llama, print_args=True))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda tensors, _: {"state_dict": tensors}, "a dict under 'state_dict'"),
        (lambda tensors, _: {**tensors, "epoch": 3}, "a int under 'epoch'"),
        (lambda tensors, _: {**tensors, 5: torch.ones(1)}, "under '5'"),
        (lambda tensors, _: [*tensors.values()], "holds a list instead of tensors"),
        (lambda tensors, _: next(iter(tensors.values())), "holds a Tensor instead of"),
        (lambda tensors, path: {**tensors, "x": Hostile(path)}, "would call posix.system"),
        (lambda tensors, _: torch.nn.Linear(2, 2), "would call torch.nn.modules.linear.Linear"),
    ],
    ids=["wrapped", "number", "no name", "list", "tensor", "hostile", "module"],
)
def test_pickles_of_something_else(llama, weights, tmp_path, content, words, zipped):
    found = content(weights, tmp_path / "touched")
    path = llama / "pytorch_model.bin"
    torch.save(found, path, _use_new_zipfile_serialization=zipped)
    refuse(llama, tmp_path / "m", str(path), words)
    assert not (tmp_path / "touched").exists()


def test_a_hostile_pickle_of_another_program_is_not_called_damaged(llama, weights, tmp_path):
    for protocol in (2, 4, 5):
        with (llama / "pytorch_model.bin").open("wb") as file:
            pickle.dump({"x": Hostile(tmp_path / "touched")}, file, protocol=protocol)
        refuse(llama, tmp_path / "m", "would call posix.system", "nothing was called")
    assert not (tmp_path / "touched").exists()


def test_an_ordered_dictionary_is_one(llama, weights):
    torch.save(collections.OrderedDict(weights), llama / "pytorch_model.bin")
    assert HFReader(llama).shapes.keys() == weights.keys()


@pytest.mark.parametrize(
    "content", [[], {}, {"weight_map": []}, {"weight_map": {}}, {"weight_map": {"a": 5}}]
)
def test_an_index_that_is_none(llama, weights, tmp_path, content):
    (llama / "pytorch_model.bin.index.json").write_text(json.dumps(content))
    refuse(llama, tmp_path / "m", "pytorch_model.bin.index.json", "no index of weights")


# --- folders of something else ---


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("model-q4.gguf", "GGUF file of llama.cpp"),
        ("consolidated.00.pth", "Meta's own format"),
        ("weights.pth", "PyTorch checkpoint"),
        ("latest_checkpointed_iteration.txt", "a Megatron checkpoint"),
        ("quantize_config.json", "quantised (quantize_config.json)"),
        ("__0_0.distcp", "distributed checkpoint"),
        ("nothing.txt", "holds no weights"),
    ],
)
def test_a_word_on_what_it_is(llama, weights, tmp_path, file, words):
    (llama / file).write_text("{}")
    refuse(llama, tmp_path / "m", "holds no weights", words)
    (llama / "config.json").unlink()
    refuse(llama, tmp_path / "m", "config.json", words if "no weights" not in words else "missing")


def test_a_file_instead_of_a_folder(tmp_path):
    (tmp_path / "x.gguf").write_text("GGUF")
    refuse(tmp_path / "x.gguf", tmp_path / "m", "no such folder", "GGUF file of llama.cpp")


def test_an_adapter_is_not_its_base_model(llama, tmp_path):
    (llama / "adapter_config.json").write_text("{}")
    refuse(llama, tmp_path / "m", "adapter", "name its base model by --hf-model")
    with pytest.raises(UserError, match="adapter"):
        import_model(ImportOptions(hf_model=llama, print_args=True))


def test_full_weights_with_a_key_of_quantisation_convert_with_a_note(llama, tmp_path, capsys):
    change_config(llama, quantization_config={"quant_method": "bitsandbytes"}, auto_map={"a": "b"})
    import_model(ImportOptions(hf_model=llama, save=tmp_path / "m"))
    note = "left out: quantization_config (the weights are full ones), auto_map (code of"
    assert note in capsys.readouterr().out
    shutil.rmtree(tmp_path / "m")
    (llama / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"quantised \(bitsandbytes\)"):
        import_model(ImportOptions(hf_model=llama, print_args=True))


@pytest.mark.parametrize(
    ("rename", "words"),
    [
        (lambda name: name.removeprefix("model."), "without the output layer"),
        (lambda name: f"module.{name}", "another program's names"),
        (lambda name: f"{name}{'x' * 5000}", "another program's names"),
    ],
)
def test_names_of_another_kind_make_a_short_line(llama, weights, tmp_path, rename, words):
    output = words.startswith("without")
    renamed = {rename(name): t for name, t in weights.items() if not (output and "lm" in name)}
    save_file(renamed, llama / "model.safetensors", metadata={"format": "pt"})
    refuse(llama, tmp_path / "m", words)
    with pytest.raises(UserError) as error:
        import_model(ImportOptions(hf_model=llama, save=tmp_path / "m"))
    assert len(str(error.value)) < 500
