# SPDX-License-Identifier: Apache-2.0
"""Megatron's own tokenizers, loaded from a local path with clear errors."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from e2_common.disk.indexed_dataset import token_type
from e2_common.errors import UserError, on_one_line
from e2_tools.corpus.light_import import with_megatrons_tokenizers
from e2_tools.corpus.tiktoken import TIKTOKEN, TiktokenOptions

HUGGING_FACE = "HuggingFaceTokenizer"
SENTENCE_PIECE = "SentencePieceTokenizer"
TOKENIZER_TYPES = (HUGGING_FACE, SENTENCE_PIECE, TIKTOKEN)

# What Megatron passes when no further tokenizer flag is given. In particular a Hugging Face
# tokenizer keeps the special tokens it puts around a text, so a Llama one begins it with BOS.
_MEGATRON_DEFAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    HUGGING_FACE: (
        "huggingface",
        {
            "additional_special_tokens": [],
            "use_fast": True,
            "trust_remote_code": False,
            "include_special_tokens": True,
        },
    ),
    SENTENCE_PIECE: ("sentencepiece", {"ignore_extra_whitespaces": True, "legacy": False}),
}


class TextRefused(Exception):
    """Why a tokenizer does not encode a text."""


@dataclass(frozen=True)
class Tokenizer:
    """A loaded tokenizer.

    Attributes:
        eod: the id that ends a document, or None if the tokenizer has no such token.
        vocab_size: the number of ids, padding for the model left out.
        counts: what the model counted of the texts since somebody took it out.
    """

    model: Any
    eod: int | None
    vocab_size: int
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def dtype(self) -> type[np.number]:
        """The integer type Megatron stores this vocabulary in: uint16 if it fits, else int32."""
        return token_type(self.vocab_size)

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``, with the special tokens the tokenizer itself adds.

        Raises:
            TextRefused: the tokenizer gives up on it, as tiktoken does on a million blanks.
        """
        try:
            return self.model.tokenize(text)
        except ValueError as error:
            raise TextRefused(f"the tokenizer refuses the text ({on_one_line(error)})") from error

    def decode(self, ids: list[int]) -> str:
        """Return the text of ``ids``, special tokens included."""
        return self.model.detokenize(ids)


def check_tokenizer_path(tokenizer_type: str, path: str) -> None:
    """Check that ``path`` is of the kind the type loads; cheap, so it can come first.

    Raises:
        UserError: it is not.
    """
    if not Path(path).exists():
        raise UserError(f"--tokenizer-model {path}: no such file or folder; give a local path")
    if tokenizer_type == HUGGING_FACE and not Path(path).is_dir():
        raise UserError(
            f"--tokenizer-model {path}: {HUGGING_FACE} needs the folder that holds tokenizer.json"
        )
    if tokenizer_type == SENTENCE_PIECE and not Path(path).is_file():
        raise UserError(
            f"--tokenizer-model {path}: {SENTENCE_PIECE} needs the .model file, not a folder"
        )
    if tokenizer_type == TIKTOKEN and not (Path(path).is_file() and path.endswith(".json")):
        raise UserError(f"--tokenizer-model {path}: {TIKTOKEN} needs the vocabulary's .json file")


def load_megatron_tokenizer(
    tokenizer_type: str, path: str, tiktoken: TiktokenOptions | None = None
) -> Tokenizer:
    """Load the tokenizer at ``path`` as Megatron does.

    Args:
        tokenizer_type: one of ``TOKENIZER_TYPES``.
        path: a Hugging Face tokenizer's folder, a SentencePiece model or a tiktoken vocabulary.
        tiktoken: what Megatron asks to know of the latter.

    Raises:
        UserError: the path is missing or does not load.
    """
    check_tokenizer_path(tokenizer_type, path)
    if tokenizer_type == TIKTOKEN:
        tiktoken = tiktoken or TiktokenOptions()
        tiktoken.check(path)
        library, options = "tiktoken", tiktoken.arguments()
    else:
        library, options = _MEGATRON_DEFAULTS[tokenizer_type]

    def load(tokenizers: Any) -> tuple[Any, int | None, int]:
        model = tokenizers.MegatronTokenizer.from_pretrained(
            tokenizer_path=path, metadata_path={"library": library}, **options
        )
        return model, model.eod, model.vocab_size

    try:
        model, eod, size = with_megatrons_tokenizers(load)
    except Exception as error:  # whatever the libraries raise, the mend is the same
        raise UserError(
            f"--tokenizer-model {path}: does not load as a {tokenizer_type} ({on_one_line(error)})"
        ) from error
    # SentencePiece says -1 where a Hugging Face tokenizer says None.
    return Tokenizer(model, None if eod is None or eod < 0 else eod, size)
