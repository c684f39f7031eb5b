# SPDX-License-Identifier: Apache-2.0
"""RULER's questions over documents, ``qa_1`` and ``qa_2``, from SQuAD's or HotpotQA's own file.

The draws are those of scripts/data/synthetic/qa.py.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from e2_common.errors import UserError, brief
from e2_common.files import read_text
from e2_tools.evaluation.ruler.sizing import Room, Sample
from e2_tools.evaluation.ruler.tasks import QA


class Asked(NamedTuple):
    """A question: its answers, and the numbers of the documents that it is about and akin to."""

    question: str
    answers: list[str]
    about: list[int]
    akin: list[int]


class Documents(NamedTuple):
    """Questions in the order of the file, and all documents in the order of their text."""

    asked: list[Asked]
    texts: list[str]


def read_documents(dataset: str, path: Path) -> Documents:
    """Read SQuAD 2.0's ``dev-v2.0.json`` or HotpotQA's ``hotpot_dev_distractor_v1.json``.

    Args:
        dataset: ``squad`` or ``hotpotqa``.
        path: of its file.

    Raises:
        UserError: the file is missing, or of another form.
    """
    read = {"squad": _squad, "hotpotqa": _hotpotqa}[dataset]
    try:
        documents = Documents(*read(json.loads(read_text(path, f"--{dataset}"))))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"--{dataset} {path}: is no file of {dataset} ({brief(error)}); name the one that "
            "RULER downloads"
        ) from error
    if not documents.asked:
        raise UserError(f"--{dataset} {path}: has no questions; name a whole file")
    return documents


def _squad(content: Any) -> tuple[list[Asked], list[str]]:
    articles = [article["paragraphs"] for article in content["data"]]
    texts = sorted({each["context"] for paragraphs in articles for each in paragraphs})
    numbers = {text: number for number, text in enumerate(texts)}
    asked = []
    for paragraphs in articles:
        article = [numbers[each["context"]] for each in paragraphs]
        for paragraph in paragraphs:
            own = numbers[paragraph["context"]]
            akin = [number for number in article if number != own]
            asked += [
                Asked(each["question"], [answer["text"] for answer in each["answers"]], [own], akin)
                for each in paragraph["qas"]
                if not each["is_impossible"]
            ]
    return asked, texts


def _hotpotqa(content: Any) -> tuple[list[Asked], list[str]]:
    contexts = [
        [f"{title}\n{''.join(text)}" for title, text in each["context"]] for each in content
    ]
    texts = sorted({text for context in contexts for text in context})
    numbers = {text: number for number, text in enumerate(texts)}
    asked = [
        Asked(each["question"], [each["answer"]], [numbers[text] for text in context], [])
        for each, context in zip(content, contexts, strict=True)
    ]
    return asked, texts


def samples(room: Room, documents: Documents) -> Iterator[Sample]:
    """Yield a sample for each question of the file, in its order.

    Raises:
        UserError: the window is too small.
    """

    def chosen(asked: Asked, size: int) -> list[str]:
        texts = documents.texts
        if size >= len(texts):
            return (texts * -(-size // len(texts)))[:size]
        missing = size - len(asked.about)
        if missing > len(asked.akin):
            near = {*asked.about, *asked.akin}
            others = [number for number in range(len(texts)) if number not in near]
            drawn = room.draws.sample(others, missing - len(asked.akin))
            numbers = [*asked.about, *asked.akin, *drawn]
        else:
            numbers = asked.about + room.draws.sample(asked.akin, missing)
        return [texts[number] for number in numbers]

    def sample(asked: Asked, size: int) -> Sample:
        texts = chosen(asked, size)
        room.shuffle(texts)
        context = "\n\n".join(f"Document {n}:\n{text}" for n, text in enumerate(texts, 1))
        question = QA.template.format(context=context, question=asked.question)
        return Sample(room.prompt(question, QA.answer_prefix), asked.answers)

    step, limit = 10, room.window - QA.max_new_tokens
    size = room.largest(
        lambda size: sample(documents.asked[0], size),
        limit,
        probe=step,
        step=step,
        bound=lambda unit: int(room.window / unit * 3),
    )
    for asked in documents.asked:
        yield room.fitting(lambda size, asked=asked: sample(asked, size), limit, size, step)
