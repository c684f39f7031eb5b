# SPDX-License-Identifier: Apache-2.0
"""Where a result comes from: the command, the code, the libraries and the machine.

Every result file of the tools and benchmarks holds this under ``provenance``, so that a number can
be made again.
"""

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "megatron-core", "vllm")


def provenance(model: Path | None = None) -> dict[str, Any]:
    """Return what a result file records besides its settings.

    Args:
        model: folder of the evaluated model; its ``config.json`` is recorded whole.

    Returns:
        ``command``, the command line, quoted for a shell; ``commit`` of this repository, with
        ``-dirty`` behind it if tracked files differ, or None outside of git; ``versions`` by
        package, Python's among them; ``hardware`` (``cpu``, ``cores``, ``memory_gib``, ``gpus``);
        ``model_config``, or None.
    """
    return {
        "command": command_line(),
        "commit": commit(),
        "versions": versions(),
        "hardware": _hardware(),
        "model_config": _config(model),
    }


def command_line() -> str:
    """Return what this process was started with, quoted for a shell.

    A script below the working folder is named from there, as people type it; a command of ``e2``
    stands for itself.
    """
    script, *arguments = sys.argv
    if script.startswith("e2 "):
        return shlex.join([*script.split(), *arguments])
    path = Path(script)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        script = str(path.relative_to(Path.cwd()))
    return shlex.join([Path(sys.executable).name, script, *arguments])


def commit() -> str | None:
    """Return the commit of this repository, ``-dirty`` if files differ; None outside of git."""
    if not (ROOT / ".git").exists():  # installed: a repository around it would be another's
        return None
    try:
        run = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of those packages that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _hardware() -> dict[str, Any]:
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError):  # not POSIX
        memory = None
    import torch

    gpus = range(torch.cuda.device_count())
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "memory_gib": None if memory is None else round(memory, 1),
        "gpus": [torch.cuda.get_device_name(gpu) for gpu in gpus],
    }


def processor() -> str:
    """Return the CPU's name, as far as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def _config(model: Path | None) -> dict[str, Any] | None:
    if model is None:
        return None
    try:
        return json.loads((model / "config.json").read_bytes())
    except (OSError, ValueError):  # whoever loads the model says what is wrong with it
        return None
