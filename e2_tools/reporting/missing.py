# SPDX-License-Identifier: Apache-2.0
"""The commands that would measure what a page does not have."""

import shlex
from pathlib import Path

from e2_tools.evaluation.result_file import Results

# Of a command: what names one model, what only one run has a use for.
_OWN = ("--model", "--label", "--output")
_DROPPED = {"--heat-map": 1, "--resume": 0, "--evaluator": 1}
_WINDOWS = (4096, 8192, 16384, 32768)


def like(made: str, model: str | None, output: Path, label: str = "") -> str:
    """Return a command like another, for another model.

    Args:
        made: the other's, as a result file has it.
        model: folder of the model, None if it is not known.
        output: the file or folder to write.
        label: of the model; "" for a command that takes none.
    """
    own = {"--model": model or "DIR", "--label": label, "--output": str(output)}
    kept: list[str] = []
    words = iter(shlex.split(made))
    for word in words:
        flag, equals, _ = word.partition("=")
        if flag in _OWN or flag in _DROPPED:
            if not equals and _DROPPED.get(flag, 1):
                next(words, None)
        else:
            kept.append(word)
    return shlex.join([*kept, *(each for pair in own.items() if pair[1] for each in pair)])


def ruler(model: str | None, name: str, windows: list[int], folder: Path) -> str:
    """Return the command of RULER, its tasks that need no file."""
    return _by_window("ruler", ["--trials", "20"], model, name, windows, folder)


def perplexity(model: str | None, name: str, windows: list[int], folder: Path) -> str:
    """Return the command of perplexity by window."""
    return _by_window("perplexity", ["--data", "HELD_OUT.jsonl"], model, name, windows, folder)


def retrieval(model: str | None, name: str, windows: list[int], folder: Path) -> str:
    """Return the command of a retrieval test."""
    return _by_window("needle", ["--trials", "10"], model, name, windows, folder)


def short(before: str | None, after: str | None, name: str, folder: Path) -> str:
    """Return the command of short tasks, before and after."""
    words = ["bash", "examples/evaluation/short.sh", "--base", before or "BASE"]
    output = output_of(folder, "short", name, "")
    return shlex.join([*words, "--model", after or "DIR", "--out", str(output)])


def whole(before: str, after: str | None, folder: Path) -> str:
    """Return the command of a whole evaluation of two models."""
    words = ["bash", "examples/evaluation/run.sh", "--base", before, "--model", after or "DIR"]
    return shlex.join([*words, "--out", str(folder)])


def longbench(made: str, model: str | None, name: str, folder: Path) -> str:
    """Return the commands that answer and score what another command answered."""
    output = output_of(folder, "longbench", name, "")
    score = ["python", "tools/evaluate_longbench.py", "score", "--predictions", str(output)]
    return f"{like(made, model, output)} && {shlex.join([*score, '--label', name])}"


def output_of(folder: Path, test: str, name: str, suffix: str = ".json") -> Path:
    """Return what a command writes for a checkpoint."""
    plain = "".join(c if c.isalnum() or c in "-_.=" else "_" for c in name)
    return folder / f"{test}-{plain}{suffix}"


def command_of(results: Results) -> str | None:
    """Return the command that made a file, if it says so and is one of ours."""
    command = (results.get("provenance") or {}).get("command")
    return command if command and "evaluate" in command else None


def _by_window(
    test: str, more: list[str], model: str | None, name: str, windows: list[int], folder: Path
) -> str:
    words = ["python", f"tools/evaluate_{test}.py", "--model", model or "DIR", "--label", name]
    words += ["--windows", *map(str, windows or _WINDOWS), *more]
    return shlex.join([*words, "--output", str(output_of(folder, test, name))])
