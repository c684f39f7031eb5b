# SPDX-License-Identifier: Apache-2.0
"""The stories of a bAbI file, each up to one of its questions."""

from pathlib import Path
from typing import NamedTuple

from e2_common.errors import UserError
from e2_common.files import read_text
from e2_tools.evaluation.babilong.prompts import Task


class Story(NamedTuple):
    """Facts in their order, and a question about them."""

    facts: tuple[str, ...]
    question: str
    answer: str


def read_stories(folder: Path, task: Task) -> list[Story]:
    """Read a task's training stories, which BABILong asks.

    Args:
        folder: bAbI's ``tasks_1-20_v1-2/en-10k``.
        task: whose file is read.

    Raises:
        UserError: the file is missing, or of another form.
    """
    path = folder / f"{task.file}_train.txt"
    if not folder.is_dir():
        raise UserError(f"--babi {folder}: no such folder; name bAbI's tasks_1-20_v1-2/en-10k")
    if not path.is_file():
        raise UserError(f"--babi {folder}: has no {path.name}; name bAbI's tasks_1-20_v1-2/en-10k")
    stories: list[Story] = []
    facts: list[str] = []
    for number, line in enumerate(read_text(path, "--babi").strip().split("\n"), 1):
        place, _, text = line.partition(" ")
        asked = text.split("\t")
        if not place.isdecimal() or not text or (number == 1 and place != "1") or len(asked) == 2:
            raise UserError(f"--babi {path}: line {number} is none of bAbI's; unpack it anew")
        if place == "1":
            facts = []
        if len(asked) == 1:
            facts.append(text)
        else:
            stories.append(Story(tuple(facts), asked[0], asked[1]))
    return stories
