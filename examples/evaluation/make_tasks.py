# SPDX-License-Identifier: Apache-2.0
"""A small set of tasks in LongBench's format, of any length, from text of your own.

    python examples/evaluation/make_tasks.py --text FILES --output DIR [--words N ...] [--records N]

writes DIR/{passage_retrieval_en,hotpotqa,trec}.jsonl for tools/evaluate_longbench.py: which of 30
paragraphs two sentences come from; a question over two invented facts among passages; and whose
sentence it is, after examples, if the texts' names tell of two or more. The same text and seed give
the same files. Scores compare models and windows with each other, not with LongBench's published
numbers: the records are marked as home-made.
"""

import argparse
import hashlib
import json
import random
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from e2_common.errors import UserError, exit_on_user_error
from e2_common.files import atomic_file, read_text
from e2_common.outputs import OutputFolder
from e2_tools.arguments import command_parser, count_argument
from e2_tools.evaluation.longbench.origin import MARK
from e2_tools.evaluation.longbench.predictions import read_records

PARAGRAPHS = 30  # LongBench's prompt of passage_retrieval_en says so
PASSAGE_WORDS = 120
SENTENCE_WORDS = range(6, 41)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
TOWNS = ("Ashwick", "Belmarsh", "Corrowdale", "Dunmere", "Elmsford", "Fenholt", "Garstow", "Hexley")
PEOPLE = ("Ada Ainslow", "Clara Brackett", "Edwin Crowhurst", "Florence Dalloway", "Josiah Farrant")
SHIPS = ("Albatross", "Boreas", "Calliope", "Halcyon", "Meridian", "Nightingale", "Perseverance")


@dataclass(frozen=True, eq=False)
class Document:
    """A text: whose it is, if its name tells, and its sentences."""

    label: str | None
    sentences: list[str]


@cache
def chunks(document: Document, words: int) -> list[list[str]]:
    """Cut into consecutive runs of sentences, each as near to ``words`` words as they allow."""
    found: list[list[str]] = [[]]
    for sentence in document.sentences:
        short = words - count(found[-1])
        if found[-1] and count([sentence]) - short > short:  # with it, farther from words
            found.append([])
        found[-1].append(sentence)
    return found[:-1]


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and write the files."""
    args = build_parser().parse_args(arguments)
    documents = read(args.text)
    tasks = dict(TASKS)
    if len(labels := {document.label for document in documents} - {None}) < 2:
        del tasks["trec"]
        print(
            f"note: the texts are told to be of {' '.join(labels) or 'nobody'}; whose a sentence "
            "is (trec) is asked of two or more (see --text in --help)",
            file=sys.stderr,
        )
    made = {
        task: [
            make(documents, words, random.Random(f"{args.seed}/{task}/{words}/{number}"))
            for number, words in enumerate(args.words * args.records)
        ]
        for task, make in tasks.items()
    }
    for task, records in made.items():
        path = args.output / f"{task}.jsonl"
        with atomic_file(path) as temporary:
            temporary.write_text("".join(json.dumps(finished(task, r)) + "\n" for r in records))
        print(f"{path}: {len(records)} records")


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add(
        "--text",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="texts, or .jsonl with text in each line; the first word in a file's name, or in a "
        "line's id, says whose it is: 1790-Washington-1.txt",
    )
    add("--output", type=OutputFolder, required=True, metavar="DIR", help="for <task>.jsonl files")
    add(
        "--words",
        type=count_argument,
        nargs="+",
        default=[2000],
        metavar="N",
        help="of a context, about; several make records of each (default: 2000)",
    )
    add("--records", type=count_argument, default=20, metavar="N", help="per length (default: 20)")
    add("--seed", type=int, default=0, help="(default: 0)")
    return parser


def read(paths: list[Path]) -> list[Document]:
    """Read texts into sentences.

    Raises:
        UserError: a file is missing or malformed.
    """
    documents = []
    for path in paths:
        if path.suffix == ".jsonl":
            records = read_records(path, {"text": str})
            texts = [(record.get("id"), record["text"]) for record in records]
        else:
            texts = [(path.stem, read_text(path, "--text"))]
        documents += [Document(label(name), sentences(text)) for name, text in texts]
    return documents


def label(name: Any) -> str | None:
    """The first word of letters in a name; None without one."""
    word = re.search(r"[^\W\d_]+", name) if isinstance(name, str) else None
    return word and word[0]


def sentences(text: str) -> list[str]:
    """Sentences of a handy length, white space made single blanks."""
    found = (" ".join(each.split()) for each in SENTENCE_END.split(text))
    return [each for each in found if len(each.split()) in SENTENCE_WORDS]


def count(parts: list[str]) -> int:
    """Words of several texts."""
    return sum(len(part.split()) for part in parts)


def drawn_chunks(
    documents: list[Document], words: int, number: int, source: random.Random
) -> list[list[str]]:
    """Draw chunks of the texts, none twice.

    Raises:
        UserError: the texts have too few.
    """
    found = [chunk for document in documents for chunk in chunks(document, words)]
    if len(found) < number:
        raise UserError(
            f"--words: {number} pieces of {words} words are needed, the texts have {len(found)}; "
            "lower it or name more texts"
        )
    return source.sample(found, number)


def passage_retrieval(documents: list[Document], words: int, source: random.Random) -> Any:
    """Which paragraph two neighbouring sentences come from (LongBench asks with a summary)."""
    paragraphs = drawn_chunks(documents, max(12, words // PARAGRAPHS), PARAGRAPHS, source)
    texts = [" ".join(paragraph) for paragraph in paragraphs]
    excerpts = [
        (" ".join(paragraph[first : first + 2]), number)
        for number, paragraph in enumerate(paragraphs, 1)
        for first in range(max(1, len(paragraph) - 1))
    ]
    source.shuffle(excerpts)
    excerpt, number = next(  # one of a single paragraph
        (excerpt for excerpt in excerpts if sum(excerpt[0] in text for text in texts) == 1),
        excerpts[0],
    )
    return {
        "input": excerpt,
        "context": "\n\n".join(f"Paragraph {n}: {text}" for n, text in enumerate(texts, 1)),
        "answers": [f"Paragraph {number}"],
        "all_classes": None,
    }


def multi_hop(documents: list[Document], words: int, source: random.Random) -> Any:
    """A question over two facts in different passages, among facts about others."""
    number = max(4, round(words / PASSAGE_WORDS))
    passages = [list(c) for c in drawn_chunks(documents, PASSAGE_WORDS, number, source)]
    towns, people, ships = (source.sample(names, 2) for names in (TOWNS, PEOPLE, SHIPS))
    facts = [f"The harbour master of {t} is {p}." for t, p in zip(towns, people, strict=True)]
    facts += [f"{p} sails a ship called {s}." for p, s in zip(people, ships, strict=True)]
    for fact, at in zip(facts, source.sample(range(number), len(facts)), strict=True):
        passages[at].insert(source.randint(1, len(passages[at])), fact)
    context = (f"Passage {n}:\n{' '.join(each)}" for n, each in enumerate(passages, 1))
    return {
        "input": f"What is the ship of the harbour master of {towns[0]} called?",
        "context": "\n\n".join(context),
        "answers": [ships[0]],
        "all_classes": None,
    }


def few_shot(documents: list[Document], words: int, source: random.Random) -> Any:
    """Whose sentence it is, after examples of all."""
    by_label: dict[str, list[str]] = {}
    for document in documents:
        if document.label is not None:
            by_label.setdefault(document.label, []).extend(document.sentences)
    classes = sorted(by_label)
    unused = {name: source.sample(found, len(found)) for name, found in by_label.items()}

    def example() -> tuple[str, str]:
        name = source.choice([name for name in classes if unused[name]])
        return f'Question: Who said "{unused[name].pop()}"\nType:', name

    asked, answer = example()
    shots: list[str] = []
    while count(shots) < words:
        if not any(unused.values()):
            raise UserError(f"--words {words}: the texts have fewer; lower it or name more texts")
        question, name = example()
        shots.append(f"{question} {name}")
    return {
        "input": asked,
        "context": "\n".join(shots),
        "answers": [answer],
        "all_classes": classes,
    }


def finished(task: str, record: dict[str, Any]) -> dict[str, Any]:
    """Add LongBench's remaining fields, and the mark of a home-made record.

    ``length`` is in words, ``_id`` from the content.
    """
    content = json.dumps(record).encode()
    return {
        "input": record["input"],
        "context": record["context"],
        "answers": record["answers"],
        "length": count([record["input"], record["context"], *record["answers"]]),
        "dataset": task,
        "language": "en",
        "all_classes": record["all_classes"],
        "_id": hashlib.sha256(content).hexdigest()[:48],
        MARK: "examples/evaluation/make_tasks.py",
    }


# A new task is a function (documents, words, random numbers) -> record and a line here.
TASKS: dict[str, Callable[[list[Document], int, random.Random], Any]] = {
    "passage_retrieval_en": passage_retrieval,
    "hotpotqa": multi_hop,
    "trec": few_shot,
}

if __name__ == "__main__":
    main()
