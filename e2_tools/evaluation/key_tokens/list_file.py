# SPDX-License-Identifier: Apache-2.0
"""The file of chosen key tokens, so that every model is scored on the same ones.

``documents`` has an object per document: ``line`` of the data, ``sha256`` of its whole text,
``characters`` that the evaluator read, its ``tokens``, how many are key (``key_tokens``), and where
the spans of these ``begin`` and ``end``, in characters.
"""

import argparse
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_tools.arguments import flag_of
from e2_tools.evaluation.key_tokens.choose import Rule
from e2_tools.evaluation.result_file import Results, read_schema

SCHEMA = "e2-llm/key-tokens/1"
_CHOOSE = "remove it and choose anew with --evaluator, or name another file"
_RULE = tuple(Rule.__dataclass_fields__)
# Which documents were taken and how far they were read: the same in every run, or tokens differ.
_SELECTION = (
    "json_key",
    "max_tokens",
    "max_documents",
    "max_document_tokens",
    "min_document_tokens",
    "sample_documents",
    "seed",
)


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the command line says of the list; None is what it leaves to the file."""
    settings = {name: getattr(args, name) for name in ("evaluator_scale", *_RULE)}
    settings |= {"evaluator": None, "dtype": None}
    if args.evaluator is not None:
        told = {name: value for name, value in settings.items() if value is not None}
        settings = {"evaluator_scale": "auto", **vars(Rule()), **told}
        settings |= {"evaluator": str(args.evaluator), "dtype": args.dtype}
    return settings


def selection_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return which documents the command line takes."""
    return {name: getattr(args, name) for name in _SELECTION}


def rule_of(settings: dict[str, Any]) -> Rule:
    """Return the rule of complete settings."""
    return Rule(**{name: settings[name] for name in _RULE})


def read_list(path: Path) -> Results:
    """Read a list.

    Raises:
        UserError: it is missing, or not a whole list.
    """
    if not path.exists():
        raise UserError(f"--key-tokens {path}: no such file; choose them with --evaluator DIR")
    content = read_schema(path, SCHEMA, "evaluate_perplexity.py --key-tokens")
    if not _is_whole(content):
        raise UserError(f"{path}: is no whole list of key tokens; {_CHOOSE}")
    return content


def require_same(path: Path, content: Results, args: argparse.Namespace) -> None:
    """Check that a list is what the command line asks for.

    Raises:
        UserError: it was made with other settings, or for other documents.
    """
    asked = {name: value for name, value in settings_of(args).items() if value is not None}
    for before, now in ((content["settings"], asked), (content["selection"], selection_of(args))):
        for name, value in now.items():
            if before.get(name) != value:
                raise UserError(
                    f"{path}: was made with {flag_of(name)} {_told(before.get(name))}, now it is "
                    f"{_told(value)}; ask for the same, or name another --key-tokens"
                )


def require_tokenizer(path: Path, content: Results, tokenizer: str) -> None:
    """Check that the evaluator's tokenizer is the one that the list was made with.

    Raises:
        UserError: it is another one.
    """
    if content["tokenizer"] != tokenizer:
        raise UserError(f"{path}: the evaluator had another tokenizer then; {_CHOOSE}")


def require_text(path: Path, document: dict[str, Any], data: Path, sha256: str | None) -> None:
    """Check that a document is the one that key tokens were chosen from.

    Args:
        path: of the list.
        document: of the list.
        data: the file that is scored.
        sha256: of the text on the document's line there; None if there is no such line.

    Raises:
        UserError: it is another text.
    """
    if document["sha256"] != sha256:
        raise UserError(
            f"{path}: was made of another text than line {document['line']} of {data}; "
            "name the --data of then, or another --key-tokens"
        )


def _told(value: Any) -> str:
    return "not given" if value is None else str(value)


def _is_whole(content: Results) -> bool:
    documents = content.get("documents")
    kinds = {"line": int, "sha256": str, "characters": int, "begin": list, "end": list}
    return (
        isinstance(content.get("settings"), dict)
        and {*_RULE} <= content["settings"].keys()
        and isinstance(content.get("selection"), dict)
        and isinstance(content.get("tokenizer"), str)
        and isinstance(documents, list)
        and bool(documents)
        and all(
            isinstance(each, dict)
            and all(isinstance(each.get(name), kind) for name, kind in kinds.items())
            and len(each["begin"]) == len(each["end"])
            and all(isinstance(place, int) for place in (*each["begin"], *each["end"]))
            for each in documents
        )
    )
