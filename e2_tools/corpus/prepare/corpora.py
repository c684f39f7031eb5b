# SPDX-License-Identifier: Apache-2.0
"""From a record of each corpus to the text to train on."""

import argparse
import ast
import contextlib
import difflib
import json
import re
from collections.abc import Callable
from typing import Any

from e2_common.errors import UserError
from e2_tools.corpus.prepare.chat import TEMPLATES, only_learnt, tokenizer_template
from e2_tools.corpus.prepare.records import Broken
from e2_tools.corpus.prepare.turns import conversation_of

ALL, ASSISTANT = "all", "assistant"
UNUSED = "<unused>"  # among what a record gives: keys that are not in it, counted
Output = dict[str, Any]
# None: a good record that was not asked for.
Convert = Callable[[Any], Output | None]

# The values of pile_set_name, table 1 of the paper.
PILE_SUBSETS = (
    *("Pile-CC", "PubMed Central", "Books3", "OpenWebText2", "ArXiv", "Github", "FreeLaw"),
    *("StackExchange", "USPTO Backgrounds", "PubMed Abstracts", "Gutenberg (PG-19)"),
    *("OpenSubtitles", "Wikipedia (en)", "DM Mathematics", "Ubuntu IRC", "BookCorpus2"),
    *("EuroParl", "HackerNews", "YoutubeSubtitles", "PhilPapers", "NIH ExPorter", "Enron Emails"),
)
_SENTENCE_MARKS = re.compile(r"\s*</?S>\s*")
_GUTENBERG = re.compile(r"^\*\*\* ?(START|END) OF TH(?:E|IS) PROJECT GUTENBERG.*$", re.M)


class Pile:
    """The Pile (arXiv 2101.00027): ``text``, and ``meta`` with ``pile_set_name``.

    Raises:
        UserError: a subset is asked for that the Pile does not have.
    """

    def __init__(self, args: argparse.Namespace):
        self._wanted, self._unwanted = set(args.subsets or ()), set(args.exclude_subsets or ())
        self._unseen = self._wanted | self._unwanted
        for name in sorted(self._unseen.difference(PILE_SUBSETS)):
            flag = "--subsets" if name in self._wanted else "--exclude-subsets"
            near = difflib.get_close_matches(name, PILE_SUBSETS, 1) or PILE_SUBSETS
            raise UserError(
                f"{flag} {name!r}: not a subset of the Pile, unlike {', '.join(map(repr, near))}"
            )

    def __call__(self, record: Any) -> Output | None:
        """Return the record if its subset is wanted."""
        text = _text(record, "text")
        meta = _meta(record.get("meta"))
        if self._wanted or self._unwanted:
            name = meta.get("pile_set_name") if isinstance(meta, dict) else None
            if not isinstance(name, str):
                raise Broken("no pile_set_name in meta")
            self._unseen.discard(name)
            if name in self._unwanted or (self._wanted and name not in self._wanted):
                return None
        return {"text": text, "meta": meta}

    def notes(self) -> list[str]:
        """Return what the user should know of the records seen so far."""
        return [f"no record was of the subset {name!r}" for name in sorted(self._unseen)]


def sharegpt(args: argparse.Namespace) -> Convert:
    """ShareGPT and the like: conversations of a user and an assistant."""
    if args.tokenizer_model:
        template = tokenizer_template(args.tokenizer_model)
    else:
        template = TEMPLATES[args.chat_template]

    def convert(record: Any) -> Output:
        conversation = conversation_of(record)
        text, spans = template(conversation)
        output = {"text": text, UNUSED: conversation.unused}
        if args.loss_on == ASSISTANT:
            return output | {"loss_spans": only_learnt(conversation, spans)}
        conversation.unused["weight or train of 0"] += conversation.answers().count(False)
        return output

    return convert


def longsum(args: argparse.Namespace) -> Convert:
    """arXiv and PubMed summarization (Cohan et al. 2018): ``article_text``, ``abstract_text``.

    Both are lists of sentences, the abstract's within ``<S>`` and ``</S>``; or texts under
    ``article`` and ``abstract``, as the Hugging Face hub has them. The summary is what
    ``--loss-on assistant`` learns.
    """
    before, _, after = args.template.partition("{summary}")

    def convert(record: Any) -> Output:
        article = _sentences(record, "article_text", "article")
        summary = _sentences(record, "abstract_text", "abstract")
        begin = before.replace("{article}", article)
        spans = [[len(begin), len(begin) + len(summary)]]
        text = begin + summary + after.replace("{article}", article)
        return {"text": text} | ({"loss_spans": spans} if args.loss_on == ASSISTANT else {})

    return convert


def plain(args: argparse.Namespace) -> Convert:
    """Text files, one a document; or JSON lines with ``text``."""

    def convert(record: Any) -> Output:
        text = record if isinstance(record, str) else _text(record, "text")
        if args.strip_gutenberg:
            text = without_licence(text)
        return {"text": text}

    return convert


def _text(record: Any, key: str) -> str:
    if not isinstance(record, dict):
        raise Broken("not an object")
    if not isinstance(record.get(key), str):
        raise Broken(f"no text under {key}")
    return record[key]


def _meta(value: Any) -> Any:
    """Return the object that some mirrors write as a text, of JSON or of Python."""
    for parse in (json.loads, ast.literal_eval) if isinstance(value, str) else ():
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            found = parse(value)
            if isinstance(found, dict):
                return found
    return value


def _sentences(record: Any, key: str, or_key: str) -> str:
    if not isinstance(record, dict):
        raise Broken("not an object")
    value = record.get(or_key) if record.get(key) is None else record[key]
    sentences = [value] if isinstance(value, str) else value
    if not isinstance(sentences, list) or not all(isinstance(s, str) for s in sentences):
        raise Broken(f"no sentences under {key}")
    text = " ".join(_SENTENCE_MARKS.sub(" ", sentence).strip() for sentence in sentences).strip()
    if not text:
        raise Broken(f"nothing under {key}")
    return text


def without_licence(text: str) -> str:
    """Cut what Project Gutenberg puts before and behind a book."""
    for mark in _GUTENBERG.finditer(text):
        if mark[1] == "END":
            text = text[: mark.start()]
    for mark in _GUTENBERG.finditer(text):
        if mark[1] == "START":
            return text[mark.end() :].strip("\r\n")
    return text
