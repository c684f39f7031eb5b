# SPDX-License-Identifier: Apache-2.0
"""What of a run can be reported: result files by schema, TensorBoard folders."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from e2_common.errors import UserError
from e2_common.json_file import read_json_object
from e2_tools.evaluation import collection
from e2_tools.evaluation.longbench import answered
from e2_tools.evaluation.perplexity.results import DIFFERENCES_SCHEMA

OURS = "e2-llm/"
_HEAD = 4096  # bytes in which a result file of ours names its schema
Content = dict[str, Any]


class Result(NamedTuple):
    """A result file."""

    path: Path
    content: Content


class Run(NamedTuple):
    """What lies below a folder.

    ``results``: schema without its version, such as ``e2-llm/passkey``, -> files in the order of
    their paths. ``events``: folders with TensorBoard's event files.
    """

    folder: Path
    results: dict[str, list[Result]]
    events: list[Path]


def collect(folder: Path) -> Run:
    """Find the result files and event files below a folder, hidden folders excepted.

    Raises:
        UserError: there is no such folder, or nothing to report in it, or a result file is broken.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the folder of a run's results")
    results: dict[str, list[Result]] = {}
    events = []
    for path in _files(folder):
        if path.name.startswith("events.out.tfevents."):
            if path.parent not in events:
                events.append(path.parent)
        elif path.suffix == ".json" and _is_ours(path):
            content = read_json_object(path, "remove it or evaluate anew", "whole JSON")
            kind = kind_of(content["schema"])
            if kind not in NO_RESULT:
                results.setdefault(kind, []).append(Result(path, content))
    if not results and not events:
        raise UserError(
            f"{folder}: holds no result file of the evaluate commands and no TensorBoard folder; "
            "name the folder that their --output pointed into"
        )
    return Run(folder, results, events)


def kind_of(schema: str) -> str:
    """Return a schema without its version."""
    return schema.rpartition("/")[0]


# Settings of predictions, which the summary has, and what was made of other result files.
NO_RESULT = tuple(map(kind_of, (answered.SCHEMA, collection.SCHEMA, DIFFERENCES_SCHEMA)))


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _is_ours(path: Path) -> bool:
    """Whether a JSON file begins with a schema of ours: tokenizers have megabytes of others."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD).decode(errors="replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); mend or move it") from error
    compact = "".join(head.split())
    return compact.startswith('{"schema":"' + OURS)
