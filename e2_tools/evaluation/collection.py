# SPDX-License-Identifier: Apache-2.0
"""Many result files of one kind in one compact file: a line a run, their common settings once.

``runs`` has an object per result file: ``file``, ``label``, the settings that are its own, and
``rows``, lists in the order of ``columns``. ``provenance`` has what the files record of commits,
versions and machines, each that occurs once; the commands are those of ``runs`` and settings.
"""

import json
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.files import atomic_file
from e2_tools.evaluation.result_file import Results, read_schema

SCHEMA = "e2-llm/collection/1"
# What a picture or a table of many runs has no use for.
_LEFT_OUT = ("results", "label", "documents", "provenance", "versions")


def write_collection(
    path: Path, runs: list[tuple[Path, Results]], metrics: tuple[str, ...]
) -> None:
    """Write what was drawn, so that it can be drawn again.

    Args:
        path: of the new file.
        runs: path and results of every run.
        metrics: keys of their rows.

    Raises:
        UserError: the file cannot be written.
    """
    told = {name for _, results in runs for row in results["results"] for name in row}
    columns = ("window", "scale", *(metric for metric in metrics if metric in told))
    settings = [
        {key: value for key, value in results.items() if key not in _LEFT_OUT}
        for _, results in runs
    ]
    common = {
        key: value
        for key, value in settings[0].items()
        if all(other.get(key) == value for other in settings)
    }
    lines = []
    for (file, results), own in zip(runs, settings, strict=True):
        run: dict[str, Any] = {"file": str(file), "label": results["label"]}
        run |= {key: value for key, value in own.items() if key not in common}
        run["rows"] = [[_short(row.get(name)) for name in columns] for row in results["results"]]
        lines.append(json.dumps(run, ensure_ascii=False, allow_nan=False))
    head = {
        "schema": SCHEMA,
        "settings": common,
        "provenance": _origins([results for _, results in runs]),
        "columns": columns,
    }
    text = (
        json.dumps(head, ensure_ascii=False)[:-1] + ', "runs": [\n' + ",\n".join(lines) + "\n]}\n"
    )
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _origins(runs: list[Results]) -> dict[str, list[Any]]:
    """What the provenances of all files say, each thing once; a collection's has lists already."""
    origins: dict[str, list[Any]] = {"commit": [], "versions": [], "hardware": []}
    for run in runs:
        for name, known in origins.items():
            value = (run.get("provenance") or {}).get(name)
            values = value if isinstance(value, list) else [value]
            known += [each for each in values if each is not None and each not in known]
    return origins


def _short(value: Any) -> Any:
    return float(f"{value:.7g}") if isinstance(value, float) else value


def is_collection(path: Path) -> bool:
    """Whether a file says that it is one; who reads it says what is wrong with it."""
    try:
        with path.open("rb") as file:
            return file.read(200).startswith(b'{"schema": "%s"' % SCHEMA.encode())
    except OSError:
        return False


def read_collection(path: Path) -> list[tuple[Path, Results]]:
    """Read a file of :func:`write_collection`.

    Returns:
        Path and results of every run, as the result files themselves would give them.

    Raises:
        UserError: the file is not whole.
    """
    content = read_schema(path, SCHEMA, "plot_results.py --collect")
    try:
        settings, columns = content["settings"], content["columns"]
        settings["provenance"] = content.get("provenance")
        return [
            (
                Path(run["file"]),
                {
                    **settings,
                    **{key: value for key, value in run.items() if key not in ("file", "rows")},
                    "results": [dict(zip(columns, row, strict=True)) for row in run["rows"]],
                },
            )
            for run in content["runs"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: is not whole ({error}); collect the results again") from error


def kind_of_collection(path: Path) -> str | None:
    """The schema of the result files that were collected."""
    schema = read_schema(path, SCHEMA, "plot_results.py --collect").get("settings", {})
    return schema.get("schema") if isinstance(schema, dict) else None
