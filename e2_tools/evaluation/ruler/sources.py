# SPDX-License-Identifier: Apache-2.0
"""The files that RULER's tasks draw from, which tasks they allow, and the samples of each."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2_common.errors import UserError, brief
from e2_common.files import read_text, sha256_of
from e2_tools.arguments import flag_of
from e2_tools.evaluation.ruler import counting, niah, questions, tracking
from e2_tools.evaluation.ruler.sizing import Room, Sample
from e2_tools.evaluation.ruler.tasks import CWE, ESSAY, FWE, NIAH, QA, TASKS, VT
from e2_tools.evaluation.ruler.text import SENTENCES, Essay, read_haystack, sentence_splitter
from e2_tools.evaluation.ruler.words import word_list, words_version

FILES = (ESSAY, "english_words", "squad", "hotpotqa")  # flags


def chosen_tasks(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the tasks that the command line asks for, and those it has no file for.

    Raises:
        UserError: a task is named without its file.
    """
    named = [name for name in TASKS if args.tasks is None or name in args.tasks]
    missing = [name for name in named if TASKS[name].needs and not getattr(args, TASKS[name].needs)]
    if missing and args.tasks is not None:
        flag = flag_of(TASKS[missing[0]].needs)
        raise UserError(f"--tasks {missing[0]}: draws from a file; name it with {flag}")
    return [name for name in named if name not in missing], missing


@dataclass
class Sources:
    """What is drawn from; None where no task needs it.

    Attributes:
        settings: what a result file says about it.
    """

    essay: Essay | None = None
    english: list[str] | None = None
    documents: dict[str, questions.Documents] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def samples(self, task: str, room: Room) -> Iterator[Sample]:
        """Yield the samples of a task, as many as there are.

        Raises:
            UserError: the window is too small for the task, or needs more words.
        """
        family, settings = TASKS[task].family, TASKS[task].settings
        if family is NIAH:
            return niah.samples(room, **settings, essay=self.essay)
        if family is QA:
            return questions.samples(room, self.documents[settings["dataset"]])
        if family is CWE:
            return counting.common_words(room, self.english)
        return {VT: tracking.samples, FWE: counting.coded_words}[family](room)


def read_sources(args: argparse.Namespace, tasks: list[str]) -> Sources:
    """Read the files that the tasks of a command line draw from.

    Raises:
        UserError: a file is missing or malformed, has fewer questions than trials, or a package or
            its data is missing.
    """
    sources = Sources(settings=dict.fromkeys(FILES))
    _check_named(args)
    needed = {TASKS[task].needs for task in tasks}
    if ESSAY in needed:
        text, described = read_haystack(args.haystack)
        sentences = args.sentences or SENTENCES[0]
        sources.essay = Essay(text, sentence_splitter(sentences), args.haystack)
        sources.settings[ESSAY] = described | {"sentences": sentences}
    if "cwe" in tasks and args.english_words:
        sources.english = _english(args.english_words)
        sources.settings["english_words"] = _described(args.english_words)
    for dataset in sorted(needed & {"squad", "hotpotqa"}):
        path = getattr(args, dataset)
        read = sources.documents[dataset] = questions.read_documents(dataset, path)
        if len(read.asked) < args.trials:
            raise UserError(
                f"--{dataset} {path}: has {len(read.asked)} questions; lower --trials to as many"
            )
        sources.settings[dataset] = _described(path)
    word_list("noun")  # so that a missing package is told before a model is loaded
    sources.settings["words"] = words_version()
    return sources


def _check_named(args: argparse.Namespace) -> None:
    """Refuse a file that is not there, asked or not, and a flag that says how to read no file."""
    for name in FILES:
        if (path := getattr(args, name)) is not None and not path.is_file():
            raise UserError(f"{flag_of(name)} {path}: cannot be read (no such file); name a file")
    if args.sentences is not None and getattr(args, ESSAY) is None:
        raise UserError(f"--sentences {args.sentences}: of --haystack; name that, or drop this")


def _described(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": sha256_of(path)}


def _english(path: Path) -> list[str]:
    """RULER's ``english_words.json``: an object whose values are words."""
    try:
        words = list(json.loads(read_text(path, "--english-words")).values())
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"--english-words {path}: is no JSON object of words ({brief(error)}); name RULER's "
            "english_words.json, which Git LFS fetches"
        ) from error
    if not all(isinstance(word, str) for word in words):
        raise UserError(f"--english-words {path}: holds something else than words; mend it")
    return words
