# SPDX-License-Identifier: Apache-2.0
"""Models to convert: one a family as transformers saves them, and two as Megatron saves them."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.commands import run_command
from tests.helpers.families import FAMILIES, make_model


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
    run_command(Path(__file__).with_name("save_megatron_reference.py"), folder, timeout=200)
    return folder
