# SPDX-License-Identifier: Apache-2.0
"""Which checkpoint a run starts from: a whole one, or none with a line that says why.

A run that was ended in the middle of a save leaves a checkpoint that is not whole, a disk may lose
a file or flip a bit. What can be seen from the files' names and sizes is seen before anything is
built (:func:`choose`); checksums are compared by all ranks together right before loading
(:func:`check_sums`).
"""

import argparse
import sys
import time
from pathlib import Path

import torch.distributed as dist

from e2_common.disk.checkpoint_folder import (
    RELEASE,
    TRACKER,
    folder_of,
    has_tracker,
    iterations,
    size,
    track,
    tracked,
)
from e2_common.disk.checksums import wrong_sum
from e2_common.disk.torch_dist_index import FORMAT, flaw, newest_whole
from e2_common.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the flags of this module."""
    group = parser.add_argument_group("whole checkpoints", "what a run starts from")
    group.add_argument(
        "--load-newest-whole",
        action="store_true",
        help="If the newest checkpoint in --load is not whole, start from the newest whole one "
        "before it and say so. Default: refuse and name it.",
    )
    group.add_argument(
        "--skip-checksums",
        action="store_true",
        help="Do not compare a checkpoint's checksums before loading it (all ranks read it once "
        "more, each a share). Sizes are always checked.",
    )
    return parser


def source_of(args: argparse.Namespace) -> str | None:
    """The argument that names the save folder which the run will load from, if it loads at all."""
    for name in ("load", "pretrained_checkpoint"):
        folder = getattr(args, name)
        if folder and has_tracker(folder):
            return name
    return None


def choose(args: argparse.Namespace) -> tuple[int | None, list[str]]:
    """Choose the checkpoint to load by what can be seen without reading it.

    Args:
        args: Megatron's, parsed, perhaps not validated.

    Returns:
        The iteration for ``ckpt_step`` if it is not the one that Megatron would take by itself,
        and warnings, a line each.

    Raises:
        UserError: the checkpoint is not whole.
    """
    if args.ckpt_step and args.load_newest_whole:
        raise UserError("--ckpt-step and --load-newest-whole exclude each other: drop one")
    if args.ckpt_format != FORMAT:
        return None, []
    load = Path(args.load) if args.load else None
    if load is None or not (has_tracker(load) or iterations(load)):
        _check_base(args)
        return None, []
    checkpoint = args.ckpt_step or tracked(load)
    if checkpoint is not None:
        reason = flaw(folder_of(load, checkpoint))
        if reason is None:
            return None, []
        reason = f"{folder_of(load, checkpoint).name} is not whole: {reason}"
    elif has_tracker(load):
        reason = f"{TRACKER} holds no iteration"
    elif newest_whole(load) is None:
        # Ended in its first save: nothing was ever finished, so nothing is lost.
        return None, [f"--load {load}: no checkpoint was finished there; starting without one"]
    else:
        reason = f"{TRACKER} is missing"
    older = _older(load, checkpoint)
    if older is None or not args.load_newest_whole:
        raise UserError(_refusal(args, load, reason, older))
    if checkpoint is None:  # Megatron reads the tracker even if it then takes another iteration
        track(load, older)
    return older, [_fallen_back(args, load, reason, older)]


def check_sums(args: argparse.Namespace) -> None:
    """Compare the checksums of the checkpoint that is about to be loaded; called by all ranks.

    Args:
        args: Megatron's; ``ckpt_step`` is set if an older checkpoint has to be loaded.

    Raises:
        UserError: a checksum is wrong. Only the first rank raises it, the others end.
    """
    load, checkpoint = _to_load(args)
    while checkpoint is not None:
        # File systems may show the ranks different things: the first one decides.
        [(load, checkpoint)] = _broadcast([(load, checkpoint)])
        start = time.monotonic()
        folder = folder_of(load, checkpoint)
        reasons = [None] * dist.get_world_size()
        dist.all_gather_object(reasons, wrong_sum(folder, dist.get_rank(), len(reasons)))
        reason = next((reason for reason in reasons if reason), None)
        if isinstance(checkpoint, int) and args.load_newest_whole:
            args.ckpt_step = checkpoint
        if reason is None:
            if dist.get_rank() == 0:
                took = time.monotonic() - start
                print(f"> {folder}: checksums of {size(folder) / 1e9:.3g} GB in {took:.1f} s")
            return
        reason = f"{folder.name} is not whole: {reason}"
        older = _older(load, checkpoint)
        if older is None or not args.load_newest_whole:
            if dist.get_rank() == 0:
                raise UserError(_refusal(args, load, reason, older))
            time.sleep(1)  # torchrun ends all ranks when the first one has ended: let it speak
            sys.exit(2)
        if dist.get_rank() == 0:
            print(f"WARNING: {_fallen_back(args, load, reason, older)}", flush=True)
        checkpoint = older


def _check_base(args: argparse.Namespace) -> None:
    """The converted checkpoint that training begins with has nothing to fall back to."""
    if not args.pretrained_checkpoint:
        return
    base = Path(args.pretrained_checkpoint)
    checkpoint = tracked(base)
    if checkpoint is None:
        return  # its absence is refused elsewhere
    reason = flaw(folder_of(base, checkpoint))
    if reason:
        reason = f"{folder_of(base, checkpoint).name} is not whole: {reason}"
        raise UserError(_refusal(args, base, reason, None))


def _to_load(args: argparse.Namespace) -> tuple[Path, int | str | None]:
    """Folder and checkpoint that Megatron would load now; None if there is nothing to check."""
    source = source_of(args)
    if source is None or args.ckpt_format != FORMAT:
        return Path(), None
    folder = Path(getattr(args, source))
    return folder, args.ckpt_step or tracked(folder)


def _broadcast(value: list) -> list:
    dist.broadcast_object_list(value, src=0)
    return value


def _older(load: Path, checkpoint: int | str | None) -> int | None:
    """The newest whole iteration before a checkpoint, or at all if it is not known."""
    if checkpoint == RELEASE:
        return None
    return newest_whole(load, checkpoint)


def _refusal(args: argparse.Namespace, load: Path, reason: str, older: int | None) -> str:
    if older is None:
        return f"{_where(args, load)}: {reason}. No whole one is left there: copy or make it again"
    return (
        f"{_where(args, load)}: {reason}. The newest whole one is iteration {older}: "
        f"`echo {older} > {load / TRACKER}` goes on from it, --load-newest-whole by itself"
    )


def _fallen_back(args: argparse.Namespace, load: Path, reason: str, older: int) -> str:
    where = _where(args, load)
    return f"{where}: {reason}; going on from iteration {older}, the newest whole one"


def _where(args: argparse.Namespace, folder: Path) -> str:
    flag = "--load" if args.load and Path(args.load) == folder else "--pretrained-checkpoint"
    return f"{flag} {folder}"
