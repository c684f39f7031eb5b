# SPDX-License-Identifier: Apache-2.0
"""Runs commands, in a process of their own or in this one, and checks how they refuse."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import pytest

from tests.helpers import ROOT


def run_command(
    *words: object,
    code: int | None = 0,
    timeout: float = 120,
    cwd: Path = ROOT,
    stdin: str | None = None,
    **environment: object,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, in the project's folder, where it finds this checkout's packages.

    A program that ends in ``.py`` runs under this Python, ``-c`` and ``-m`` (and ``-X`` …) are
    this Python's too; one that ends in ``.sh`` runs under bash. ``environment`` comes on top of
    this process's own; its ``PYTHON`` takes the place of this Python, and is what the project's
    scripts use. Fails unless the exit code is ``code``; ``None`` allows every one.
    """
    program, *rest = map(str, words)
    python = str(environment.get("PYTHON", sys.executable))
    if program.startswith("-"):
        command = [python, program, *rest]
    elif program.endswith(".py"):
        command = [python, str(ROOT / program), *rest]
    elif program.endswith(".sh"):
        command = ["bash", str(ROOT / program), *rest]
    else:
        command = [program, *rest]
    added = {name: str(value) for name, value in environment.items()}
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=cwd,
        input=stdin,
        env={**os.environ, "PYTHON": sys.executable, **added},
    )
    if code is not None:
        told = f"{run.stdout[-3000:]}{run.stderr[-3000:]}"
        assert run.returncode == code, f"{' '.join(command[:4])}: exit {run.returncode}\n{told}"
    return run


def call(main: Callable[[], object], *arguments: object) -> None:
    """Run a command's ``main`` in this process with these words as its command line."""
    with mock.patch.object(sys, "argv", ["command", *map(str, arguments)]):
        main()


def refused(
    capture,
    words: str | Sequence[str],
    run: Callable[..., object],
    *arguments: object,
    untouched: Path | None = None,
    alone: bool = True,
) -> str:
    """Check that ``run(*arguments)`` refuses, as :func:`refusal_in`; return the refusal.

    ``capture`` is pytest's capsys, or its capfd where other processes speak too. What lies in the
    folder ``untouched`` stays as it is.
    """
    before = contents(untouched)
    capture.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    out, err = capture.readouterr()
    assert contents(untouched) == before
    return refusal_in(stop.value.code, out, err, words, alone)


def refused_by(
    process: subprocess.CompletedProcess[str], words: str | Sequence[str], alone: bool = True
) -> str:
    """Check that a finished process refused, as :func:`refusal_in`; return the refusal."""
    return refusal_in(process.returncode, process.stdout, process.stderr, words, alone)


def refusal_in(code: object, out: str, err: str, words: str | Sequence[str], alone: bool) -> str:
    """Check the refusal of a command that has ended; return it without its ``error: ``.

    Exit code 2, one line ``error: …`` with every one of ``words``, no traceback. Nothing else may
    be said if it is ``alone``; else there may be notes and progress before it.
    """
    assert code == 2, f"exit {code}: {err[-3000:]}"
    assert "Traceback" not in err, err[-3000:]
    lines = err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, err[-3000:]
    assert errors == (lines if alone else lines[-1:]), err[-3000:]
    assert not (alone and out), out
    for word in [words] if isinstance(words, str) else words:
        assert word in errors[0], f"{word!r} is not in: {errors[0]}"
    return errors[0].removeprefix("error: ")


def contents(folder: Path | None) -> dict[Path, tuple[int, int]]:
    """Every file and folder in there, with its size and when it was changed."""
    found = sorted(folder.rglob("*")) if folder else []
    return {
        path: (0, 0) if path.is_dir() else (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in found
    }
