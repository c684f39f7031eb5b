# SPDX-License-Identifier: Apache-2.0
"""Finds and carries over the files of a Hugging Face tokenizer."""

from pathlib import Path

from e2_common.errors import UserError

FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def find_tokenizer(
    tokenizer: Path | None, hf_model: Path | None, trained_with: str | None
) -> Path | None:
    """Return the folder to take the tokenizer from: --tokenizer, --hf-model, the run's own.

    Args:
        tokenizer: --tokenizer, which must hold one.
        hf_model: --hf-model, which may.
        trained_with: the run's --tokenizer-model, used if it is a folder that holds one.

    Raises:
        UserError: --tokenizer holds none.
    """
    if tokenizer is not None:
        if not _has_tokenizer(tokenizer):
            raise UserError(
                f"--tokenizer {tokenizer}: holds no tokenizer ({', '.join(VOCABULARIES)}); "
                "name the folder of a Hugging Face tokenizer"
            )
        return tokenizer
    candidates = [hf_model, Path(trained_with) if trained_with else None]
    return next((path for path in candidates if path and _has_tokenizer(path)), None)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in VOCABULARIES)


def copy_tokenizer(source: Path, target: Path) -> list[str]:
    """Copy the tokenizer's files and return their names.

    Raises:
        UserError: one cannot be read.
        OSError: one cannot be written.
    """
    names = [name for name in FILES if (source / name).is_file()]
    for name in names:
        try:
            content = (source / name).read_bytes()
        except OSError as error:
            raise UserError(f"{source / name}: cannot be read ({error.strerror})") from error
        (target / name).write_bytes(content)
    return names
