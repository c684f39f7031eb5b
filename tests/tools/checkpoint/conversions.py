# SPDX-License-Identifier: Apache-2.0
"""Imports of Hugging Face models and what is compared of them."""

import json

import pytest
import torch
from safetensors.torch import load_file

from e2_common.errors import UserError
from e2_tools.checkpoint.import_hf import ImportOptions, import_model


def convert(source, target, **flags):
    import_model(ImportOptions(hf_model=source, save=target, **flags))
    return target


def tensors(folder):
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def assert_same_bytes(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert torch.equal(tensor.view(torch.uint8), other[name].view(torch.uint8)), name


def refuse(source, target, *words, **flags):
    with pytest.raises(UserError) as error:
        convert(source, target, **flags)
    for word in words:
        assert word in str(error.value), str(error.value)
    assert "\n" not in str(error.value)
    assert not target.exists()
    assert not list(target.parent.glob(".*tmp"))


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
