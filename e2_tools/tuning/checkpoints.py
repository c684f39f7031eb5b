# SPDX-License-Identifier: Apache-2.0
"""The checkpoints of a run: each appears whole, and is looked at before a run goes on from it.

A Trainer writes its files one by one into the folder that has the checkpoint's name already. Here
they are written below another one, and the folder gets its name when all are there, with their
sizes and checksums beside them.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from e2_common.disk.manifest import manifest_flaw, write_manifest
from e2_common.disk.room import as_os_errors
from e2_common.errors import UserError

PREFIX = "checkpoint-"  # as transformers calls them
UNFINISHED = ".unfinished"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints that were written to their end, the newest first."""
    if not folder.is_dir():
        return []
    found = [(path.name.removeprefix(PREFIX), path) for path in folder.glob(f"{PREFIX}*")]
    return [path for _, path in sorted(((int(n), p) for n, p in found if n.isdecimal()))][::-1]


def choose(folder: Path, newest_whole: bool) -> tuple[Path | None, str | None]:
    """The checkpoint that a run goes on from, and a warning if it is not the newest.

    Args:
        folder: of the run's checkpoints.
        newest_whole: whether to pass by those that are damaged.

    Returns:
        None for a run that begins.

    Raises:
        UserError: the newest one is damaged, or with ``newest_whole`` all are.
    """
    reason = None
    for path in checkpoints(folder):
        flaw = manifest_flaw(path)
        if flaw is None:
            if reason is None:
                return path, None
            if newest_whole:
                return path, f"{reason}; going on from {path.name}, the newest whole one"
            raise UserError(
                f"{reason}. The newest whole one is {path.name}, which --load-newest-whole takes"
            )
        reason = reason or f"--checkpoint-dir {folder}: {path.name} is not whole: {flaw}"
    if reason is not None:
        raise UserError(
            f"{reason}. No whole one is left there: copy it again, or name another folder to begin "
            "anew"
        )
    return None, None


def unfinished(folder: Path) -> Path:
    """Where checkpoints are written before they have their names."""
    return folder / UNFINISHED


def begin(folder: Path) -> None:
    """Make room for a checkpoint, and take away what an earlier run did not finish."""
    shutil.rmtree(unfinished(folder), ignore_errors=True)
    unfinished(folder).mkdir(parents=True)


def finish(folder: Path, step: int, keep: int) -> None:
    """Give a checkpoint its name, and take away the oldest ones.

    Args:
        folder: of the run's checkpoints.
        step: of this one, all of whose files are written.
        keep: how many.

    Raises:
        OSError: a file cannot be written or removed.
    """
    name = f"{PREFIX}{step}"
    written, path = unfinished(folder) / name, folder / name
    write_manifest(written)
    if path.exists():  # of a run that was set back
        os.replace(path, unfinished(folder) / f"{name}-before")
    os.replace(written, path)
    shutil.rmtree(unfinished(folder))
    for old in checkpoints(folder)[keep:]:
        shutil.rmtree(old)


@contextlib.contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Say of a save that fails for the disk's sake what became of it.

    Raises:
        UserError: a file cannot be written.
    """
    try:
        with as_os_errors(folder):
            yield
    except OSError as error:
        last = next(iter(checkpoints(folder)), None)
        goes_on = "begins anew" if last is None else f"goes on from {last.name}"
        raise UserError(
            f"--checkpoint-dir {folder}: a checkpoint cannot be written "
            f"({error.strerror or error}); make room and start again, the run {goes_on}"
        ) from error
    finally:
        shutil.rmtree(unfinished(folder), ignore_errors=True)
