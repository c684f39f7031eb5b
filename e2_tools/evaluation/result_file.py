# SPDX-License-Identifier: Apache-2.0
"""Result files: a versioned JSON schema, written whole or not at all."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.files import atomic_file
from e2_common.json_file import read_json_object

Results = dict[str, Any]
# What older versions did not record, so that their files do not say whether it was the same.
LATER = ("weights", "own_rope")
# Of the model: what has to be the same for results of two runs to stand in one file.
MODEL = ("model", *LATER, "dtype", "base_window", "scale_mode", "frequencies")
# What would fill a page, or say nothing to a reader: that it differs is all there is to tell.
_LONG = ("documents", "key_tokens", *LATER)


def read_schema(path: Path, schema: str, made_by: str) -> Results:
    """Read a JSON file of a given schema.

    Args:
        path: of the file.
        schema: that it has to have.
        made_by: the command that makes such files, for messages.

    Raises:
        UserError: it is missing, not JSON, or of another schema.
    """
    results = read_json_object(path, f"name a file of {made_by} (schema {schema!r})")
    found = results.get("schema")
    if found != schema:
        raise UserError(f"{path}: has schema {found!r}, not {schema!r}; name a file of {made_by}")
    return results


def require_same_settings(
    path: Path, before: Results, now: Results, settings: Iterable[str]
) -> None:
    """Check that results of a run to come may stand in one file with those of a run before.

    Args:
        path: of the file.
        before: what it holds.
        now: the settings of the run to come.
        settings: names of what has to be the same; of data the content, not the place.

    Raises:
        UserError: a setting differs.
    """
    for setting in settings:
        if setting in LATER and setting not in before:
            continue
        old, new = (comparable(each.get(setting)) for each in (before, now))
        if old != new:
            change = " differ" if setting in _LONG else f" was {old} and now is {new}"
            raise UserError(
                f"{path}: --resume needs the same settings, but {setting}{change}; "
                "drop --resume or name another --output"
            )


def require_same_scale(path: Path, row: Results, scale: float | None) -> None:
    """Check that a window was served at the scale at which a run to come serves it.

    Args:
        path: of the file.
        row: of it, with ``window`` and ``scale``.
        scale: g of the run to come; None for the model's own RoPE.

    Raises:
        UserError: the scale is another.
    """
    if row["scale"] != scale:  # such as one made when auto meant window / L
        raise UserError(
            f"{path}: its window {row['window']} was served at g = {row['scale']}, now it would be "
            f"at {scale}; drop --resume or name another --output"
        )


def comparable(setting: Any) -> Any:
    """Return what of a setting has to be the same: the same data file may have moved."""
    if isinstance(setting, dict):
        return {key: value for key, value in setting.items() if key != "path"}
    return setting


def remember_commands(before: Results, now: Results) -> None:
    """Write down which other commands made the part of a file that a run goes on from.

    Args:
        before: what the file holds.
        now: of the run to come; its provenance gets ``earlier_commands``, the oldest first.
    """
    old, new = before.get("provenance") or {}, now.get("provenance") or {}
    commands = dict.fromkeys([*old.get("earlier_commands", ()), old.get("command")])
    told = [command for command in commands if command not in (None, new.get("command"))]
    if told:
        now["provenance"] = new | {"earlier_commands": told}


def write_results(path: Path, results: Results) -> None:
    """Write a result file atomically.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(_one_line_lists(json.dumps(results, indent=2, allow_nan=False)))


def _one_line_lists(text: str) -> str:
    """Put each list of numbers on one line. JSON strings hold no line breaks: none is touched."""
    return re.sub(r"\[\n[\s\d.,eE+-]*\]", lambda found: " ".join(found[0].split()), text) + "\n"
