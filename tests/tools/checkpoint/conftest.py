# SPDX-License-Identifier: Apache-2.0
"""Models to convert: one a family as transformers saves them, and two as Megatron saves them."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import run_command
from tests.helpers.families import FAMILIES, make_model
from tests.helpers.quick_python import quick_python


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """The process in which Megatron computes logits begins with the libraries."""
    monkeypatch.setattr(sys, "executable", str(quick_python()))


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> Path:
    """A folder with one tiny model a family, fp32."""
    folder = tmp_path_factory.mktemp("families")
    for name in FAMILIES:
        make_model(name).save_pretrained(folder / name)
    return folder


@pytest.fixture
def llama(sources, tmp_path) -> Path:
    """A copy of the plain Llama, to damage."""
    return shutil.copytree(sources / "llama", tmp_path / "llama")


@pytest.fixture(scope="session")
def megatron(tmp_path_factory) -> Path:
    """Models built, saved and run by Megatron itself."""
    folder = tmp_path_factory.mktemp("megatron")
    program = Path(__file__).with_name("save_megatron_reference.py")
    run_command(program, folder, timeout=200, PYTHON=quick_python())
    return folder
