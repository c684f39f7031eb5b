# SPDX-License-Identifier: Apache-2.0
"""Made-up files in the form of bAbI, in which people walk about and carry things."""

import random
from pathlib import Path

from e2_tools.evaluation.babilong.prompts import PLACES, TASKS

PEOPLE = "Mary", "John", "Daniel", "Sandra"
ITEMS = "apple", "football", "milk"
MOVES = "moved to", "went back to", "journeyed to", "travelled to"


def _fact(source: random.Random, task: str) -> str:
    person = source.choice(PEOPLE)
    if task == "qa1" or source.random() < 0.6:
        return f"{person} {source.choice(MOVES)} the {source.choice(PLACES)}."
    verb = source.choice(("grabbed", "dropped", "left", "picked up"))
    return f"{person} {verb} the {source.choice(ITEMS)} there."


def _question(source: random.Random, task: str) -> tuple[str, str]:
    answer, other = source.sample(PLACES, 2)
    asked = {
        "qa1": f"Where is {source.choice(PEOPLE)}? ",
        "qa2": f"Where is the {source.choice(ITEMS)}? ",
        "qa3": f"Where was the {source.choice(ITEMS)} before the {other}? ",
    }
    return asked[task], answer


def save_babi(folder: Path, stories: int = 30) -> Path:
    """Save the three training files; the answers are made up."""
    folder.mkdir(parents=True)
    for task in TASKS:
        source, lines = random.Random(task), []
        for _ in range(stories):
            number = 0
            for _ in range(5):
                for _ in range(source.randint(2, 4 if task == "qa1" else 8)):
                    number += 1
                    lines.append(f"{number} {_fact(source, task)}")
                question, answer = _question(source, task)
                number += 1
                lines.append(f"{number} {question}\t{answer}\t{source.randint(1, number - 1)} 1")
        (folder / f"{TASKS[task].file}_train.txt").write_text("\n".join(lines) + "\n")
    return folder
