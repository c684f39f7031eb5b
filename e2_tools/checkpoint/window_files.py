# SPDX-License-Identifier: Apache-2.0
"""The files of a folder that repeat its window, as they read with another one."""

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.files import atomic_file
from e2_common.json_file import read_json_object, write_json
from e2_llm.window import Config
from e2_llm.window_keys import FILES, WINDOW, is_window, repeated
from e2_tools.checkpoint.model_card import CARD, SERVED
from e2_tools.checkpoint.pretrained_window import tokenizer_limit

Contents = dict[Path, Any]


def windows_before(config: Config, folder: Path) -> set[int]:
    """Every window that a folder said, so that a ``max_length`` which repeats it is known."""
    said = {config.get(WINDOW), *repeated(config).values(), tokenizer_limit(folder)}
    return {value for value in said if is_window(value)}


def changed_files(folder: Path, window: int, before: set[int]) -> Contents:
    """What the files beside config.json hold at another window, those that change alone.

    Args:
        folder: of the model; not every file has to stand there.
        window: to serve, in tokens.
        before: the windows said until now, of which a ``max_length`` follows.

    Returns:
        path -> the content of a JSON file, or the text of the model card.

    Raises:
        UserError: a file cannot be read.
    """
    result: Contents = {}
    for name, follow in FILES.items():
        path = folder / name
        if not path.is_file():
            continue
        content = read_json_object(path)
        new = follow(content, window, before)
        if new != content:
            result[path] = new
    card = folder / CARD
    if card.is_file():
        text = _text(card)
        new = re.sub(SERVED.format(r"[\d,]+"), SERVED.format(f"{window:,}"), text)
        if new != text:
            result[card] = new
    return result


def write_files(contents: Contents) -> None:
    """Write several files; each appears whole, and none before all are ready.

    Raises:
        UserError: one cannot be written; all stay as they were.
    """
    with ExitStack() as stack:
        for path, content in contents.items():
            temporary = stack.enter_context(atomic_file(path))
            if isinstance(content, str):
                temporary.write_text(content, encoding="utf-8")
            else:
                write_json(temporary, content)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
