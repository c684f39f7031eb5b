# SPDX-License-Identifier: Apache-2.0
"""The commands that would measure what a page does not have."""

import itertools
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from e2_tools.evaluation.result_file import Results

# Of a command: what names one model, what only one run has a use for.
_OWN = ("--model", "--label", "--output")
_DROPPED = ("--heat-map", "--resume", "--evaluator")
_SERVED = ("--scale", "--frequencies")
_WINDOWS = (4096, 8192, 16384, 32768)


@dataclass(frozen=True)
class Target:
    """Whom a command is for.

    Attributes:
        model: folder of the model; None if it is not known.
        label: of the checkpoint; "" for a command that takes none.
        served: flags by which its other files were served; None if no file says it.
    """

    model: str | None
    label: str
    served: tuple[str, ...] | None = None

    @property
    def flags(self) -> list[str]:
        """What a command says of it."""
        label = ["--label", self.label] if self.label else []
        return [*(self.served or ()), "--model", self.model or "DIR", *label]


def like(
    made: Sequence[str],
    target: Target,
    output: Path,
    *,
    windows: Sequence[int] = (),
    resume: bool = False,
) -> str:
    """Return a command like another's, for another checkpoint, at that one's own scale.

    Args:
        made: the commands that made the other's file, in their order.
        target: whom it is for.
        output: the file or folder to write.
        windows: to ask in place of the other's, in tokens.
        resume: whether the output is there already; a second command goes on anyway.
    """
    commands = []
    for number, command in enumerate(made):
        dropped = {*_OWN, *_DROPPED, *(_SERVED if target.served is not None else ())}
        words = _without(shlex.split(command), dropped | ({"--windows"} if windows else set()))
        words += ["--windows", *map(str, windows)] if windows else []
        words += [*target.flags, "--output", str(output)]
        commands.append(shlex.join([*words, *(["--resume"] if resume or number else [])]))
    return " && ".join(dict.fromkeys(commands))


def _without(words: Sequence[str], flags: Collection[str]) -> list[str]:
    """The words of a command without some flags and their values."""
    kept, dropping = [], False
    for word in words:
        if word.startswith("--"):
            dropping = word.partition("=")[0] in flags
        if not dropping:
            kept.append(word)
    return kept


def served_by(results: Results) -> tuple[str, ...] | None:
    """Return the flags by which a file's model was served; None if the file does not say it."""
    scale = results.get("scale_mode", (results.get("predictions") or {}).get("scale"))
    if scale is None:
        return None
    flags = () if scale == "auto" else ("--scale", f"{scale:g}" if scale != "none" else scale)
    words = shlex.split(command_of(results) or "")
    rule = [word for flag, word in itertools.pairwise(words) if flag == "--frequencies"]
    rule += [word.partition("=")[2] for word in words if word.startswith("--frequencies=")]
    return (*flags, "--frequencies", rule[-1]) if rule else flags


def ruler(target: Target, windows: list[int], output: Path) -> str:
    """Return the command of RULER, its tasks that need no file."""
    return _by_window("ruler", ["--trials", "20"], target, windows, output)


def perplexity(target: Target, windows: list[int], output: Path) -> str:
    """Return the command of perplexity by window."""
    return _by_window("perplexity", ["--data", "HELD_OUT.jsonl"], target, windows, output)


def needle(target: Target, windows: list[int], output: Path) -> str:
    """Return the command of the retrieval test that stands for all."""
    return _by_window("needle", ["--trials", "10"], target, windows, output)


def short(before: str | None, after: str | None, output: Path) -> str:
    """Return the command of short tasks, before and after."""
    words = ["bash", "examples/evaluation/short.sh", "--base", before or "BASE"]
    return shlex.join([*words, "--model", after or "DIR", "--out", str(output)])


def whole(before: str, after: str | None, folder: Path) -> str:
    """Return the command of a whole evaluation of two models."""
    words = ["bash", "examples/evaluation/run.sh", "--base", before, "--model", after or "DIR"]
    return shlex.join([*words, "--out", str(folder)])


def longbench(made: str, target: Target, output: Path) -> str:
    """Return the commands that answer and score what another command answered."""
    score = ["python", "tools/evaluate_longbench.py", "score", "--predictions", str(output)]
    told = like([made], replace(target, label=""), output)
    return f"{told} && {shlex.join([*score, '--label', target.label])}"


def output_of(
    folder: Path, test: str, name: str, suffix: str = ".json", *, taken: Collection[Path] = ()
) -> Path:
    """Return what a command writes for a checkpoint: nothing that is there, or is in ``taken``."""
    plain = "".join(c if c.isalnum() or c in "-_.=" else "_" for c in name)
    numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    paths = (folder / f"{test}-{plain}{number}{suffix}" for number in numbers)
    return next(path for path in paths if path not in taken and not path.exists())


def commands_of(results: Results) -> list[str]:
    """Return the commands that made a file, in their order, as far as it says and they are ours."""
    origin = results.get("provenance") or {}
    found = [*origin.get("earlier_commands", ()), origin.get("command")]
    return [command for command in found if command and "evaluate" in command]


def command_of(results: Results) -> str | None:
    """Return the last command that made a file, if it says so and is one of ours."""
    return next(iter(commands_of(results)[-1:]), None)


def _by_window(test: str, more: list[str], target: Target, windows: list[int], output: Path) -> str:
    words = ["python", f"tools/evaluate_{test}.py", *target.flags]
    words += ["--windows", *map(str, windows or _WINDOWS), *more]
    return shlex.join([*words, "--output", str(output)])
