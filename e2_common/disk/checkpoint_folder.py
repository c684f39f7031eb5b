# SPDX-License-Identifier: Apache-2.0
"""A run's save folder: the tracker file, and the folders of its iterations or of a release."""

import os
from pathlib import Path

from e2_common.errors import UserError

TRACKER = "latest_checkpointed_iteration.txt"
RELEASE = "release"  # what the tracker holds for a converted checkpoint
DIGITS = 18  # of an iteration; more make no name of a folder


def has_tracker(save_folder: str | Path) -> bool:
    """Whether Megatron finds a checkpoint there.

    Raises:
        UserError: a folder has the tracker's name, so that no save could end.
    """
    path = Path(save_folder) / TRACKER
    if path.is_dir():
        raise UserError(f"{path}: is a folder, a file is needed; remove it")
    return path.exists()


def tracked(save_folder: Path) -> int | str | None:
    """What the tracker file names: an iteration, ``release``, or None if it is not readable."""
    try:
        text = (save_folder / TRACKER).read_text(errors="replace").strip()
    except OSError:
        return None
    if text == RELEASE:
        return text
    return int(text) if _is_iteration(text) else None


def _is_iteration(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= DIGITS


def track(save_folder: Path, checkpoint: int | str) -> None:
    """Let the tracker file name a checkpoint; any number of processes may do it at once."""
    temporary = save_folder / f".{TRACKER}.{os.uname().nodename}.{os.getpid()}.tmp"
    temporary.write_text(str(checkpoint))
    os.replace(temporary, save_folder / TRACKER)


def folder_of(save_folder: Path, checkpoint: int | str) -> Path:
    """Where Megatron keeps an iteration, or the release."""
    return save_folder / (checkpoint if isinstance(checkpoint, str) else f"iter_{checkpoint:07d}")


def iterations(save_folder: Path) -> list[int]:
    """All iterations with a folder, whole or not, the newest first."""
    names = [p.name.removeprefix("iter_") for p in save_folder.glob("iter_*") if p.is_dir()]
    return sorted((int(name) for name in names if _is_iteration(name)), reverse=True)


def find_iteration(load: Path, iteration: int | None = None) -> Path:
    """Return the folder of one iteration.

    Args:
        load: a run's save folder, or the folder of one iteration.
        iteration: which one; the latest by default.

    Raises:
        UserError: there is no such folder or iteration, or the tracker is none.
    """
    if not load.is_dir():
        raise UserError(f"--load {load}: no such folder")
    if iteration is not None and not _is_iteration(str(iteration)):
        raise UserError(f"--iteration {str(iteration)[:40]}: is no iteration's number")
    if (load / "metadata.json").exists() or load.name.startswith("iter_"):
        if iteration is not None and load.name != folder_of(load, iteration).name:
            raise UserError(f"--load {load}: already one iteration; leave out --iteration")
        return load
    folder = folder_of(load, _latest(load) if iteration is None else iteration)
    if not folder.is_dir():
        there = sorted(p.name for p in load.iterdir() if p.is_dir()) or ["none"]
        raise UserError(f"{folder}: no such iteration; there are: {', '.join(there)}")
    return folder


def _latest(load: Path) -> int | str:
    tracker = load / TRACKER
    if not has_tracker(load):
        raise UserError(
            f"{tracker}: no such file; name a Megatron save folder or an iter_* folder by --load"
        )
    checkpoint = tracked(load)
    if checkpoint is None:
        raise UserError(f"{tracker}: holds no iteration number; choose one by --iteration")
    return checkpoint


def empty(folder: str | Path) -> None:
    """Remove the files of a checkpoint, those that make it one first."""
    for pattern in ("metadata.json", ".metadata", "integrity.json", "common.pt", "*.distcp"):
        for path in Path(folder).glob(pattern):
            path.unlink(missing_ok=True)


def size(folder: Path) -> int:
    """Bytes of a checkpoint's files."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
