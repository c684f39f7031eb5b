# SPDX-License-Identifier: Apache-2.0
"""A tiny model with a tokenizer, and a tiny dataset."""

import shutil

import pytest

from tests.distributed.corpus import make_corpus
from tests.helpers.families import make_model


@pytest.fixture(scope="package")
def start(tmp_path_factory):
    """A folder with ``model`` and the dataset ``corpus``."""
    folder = tmp_path_factory.mktemp("start")
    make_corpus(folder)
    make_model("qwen3").save_pretrained(folder / "model")
    shutil.copytree(folder / "tokenizer", folder / "model", dirs_exist_ok=True)
    return folder
