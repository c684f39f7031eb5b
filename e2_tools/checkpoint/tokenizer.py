# SPDX-License-Identifier: Apache-2.0
"""Finds and carries over the files of a Hugging Face tokenizer."""

import json
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.hf_tokenizer import load_hf_tokenizer

# Of a folder's top, and one folder with the templates that transformers keeps apart.
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
    "tekken.json",
)
TEMPLATES = "additional_chat_templates"
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")


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


def load_tokenizer(folder: Path) -> tuple[Any, str | None]:
    """Load the tokenizer of a folder, where that takes no code but transformers' own.

    Returns:
        The tokenizer, or None where it is not to be loaded, and then a note that says why.

    Raises:
        UserError: it is broken.
    """
    try:
        return load_hf_tokenizer(folder), None
    except UserError:
        if _has_own_code(folder):
            return None, (
                f"{folder}: its tokenizer has code of its own, which is never run here; its files "
                "were carried over, its .py files not"
            )
        if not any((folder / name).is_file() for name in VOCABULARIES[:-1]):
            return None, f"{folder}: tekken.json was carried over, and not read"
        raise


def _has_own_code(folder: Path) -> bool:
    """Whether a folder names Python code of its own for the tokenizer."""
    for name in ("tokenizer_config.json", "config.json"):
        try:
            content = json.loads((folder / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        code = content.get("auto_map") if isinstance(content, dict) else None
        if isinstance(code, list) or (isinstance(code, dict) and "AutoTokenizer" in code):
            return True
    return False


def copy_tokenizer(source: Path, target: Path) -> list[str]:
    """Copy the tokenizer's files and return their names.

    Raises:
        UserError: one cannot be read.
        OSError: one cannot be written.
    """
    names = [name for name in FILES if (source / name).is_file()]
    names += [f"{TEMPLATES}/{path.name}" for path in sorted((source / TEMPLATES).glob("*.jinja"))]
    for name in names:
        try:
            content = (source / name).read_bytes()
        except OSError as error:
            raise UserError(f"{source / name}: cannot be read ({error.strerror})") from error
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_bytes(content)
    return names
