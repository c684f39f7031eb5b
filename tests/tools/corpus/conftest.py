# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of the commands."""

import pytest

from tests.helpers.tiny_corpus import (
    HUGGING_FACE,
    SENTENCE_PIECE,
    save_hugging_face,
    save_sentence_piece,
)


@pytest.fixture(scope="session")
def tokenizers_by_name(tmp_path_factory) -> dict[str, tuple[str, str]]:
    """(type, path) of each tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizers")
    return {
        "hf": (HUGGING_FACE, save_hugging_face(folder / "hf", "<eos>")),
        "hf-bos": (HUGGING_FACE, save_hugging_face(folder / "hf-bos", "<eos>", begin=True)),
        "hf-no-eos": (HUGGING_FACE, save_hugging_face(folder / "hf-no-eos", None)),
        "sp": (SENTENCE_PIECE, save_sentence_piece(folder / "sp", 2)),
        "sp-no-eos": (SENTENCE_PIECE, save_sentence_piece(folder / "sp-no-eos", -1)),
    }
