# SPDX-License-Identifier: Apache-2.0
"""The tiny models that are evaluated, and a long text."""

import pytest

from e2_common.hf_tokenizer import load_hf_tokenizer
from tests.helpers import tiny_llama, word_model


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Reads any text, byte by byte."""
    return tiny_llama.make_tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """Its tokens are words."""
    return word_model.save_model(tmp_path_factory.mktemp("word_model"))


@pytest.fixture(scope="session")
def tokenizer(model):
    return load_hf_tokenizer(model)


@pytest.fixture
def text(tmp_path):
    """A long text in a file."""
    path = tmp_path / "paper.txt"
    path.write_text("".join(f"Sentence {n} of a long paper. " for n in range(200)))
    return path
