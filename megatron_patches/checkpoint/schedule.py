# SPDX-License-Identifier: Apache-2.0
"""Going on from a checkpoint with other iterations or another learning rate.

Megatron compares the schedule of a resumed run with the one that its checkpoint holds, half a
minute after the start, by assertions that name no flag. A constant schedule has no end, so more or
fewer iterations change nothing of it and need no flag; any other difference needs a decision.
"""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from e2_common.errors import UserError

OVERRIDE, USE_CHECKPOINT = "--override-opt_param-scheduler", "--use-checkpoint-opt_param-scheduler"
# Differences that a constant schedule does not notice.
_LENGTHS = ("--lr-decay-iters", "--train-iters")
# The rates in a group of the optimizer's parameters, and the arguments that they begin as.
_RATES = {
    "max_lr": "lr",
    "min_lr": "min_lr",
    "start_wd": "start_weight_decay",
    "end_wd": "end_weight_decay",
}


def check_schedule(stored: argparse.Namespace, args: argparse.Namespace, where: str) -> list[str]:
    """Decide by which schedule a resumed run goes on; sets Megatron's arguments accordingly.

    Args:
        stored: arguments of the checkpoint.
        args: Megatron's, of this run, validated.
        where: the flag and the folder of the checkpoint, for messages.

    Returns:
        Notes, a line each.

    Raises:
        UserError: the schedules differ and no flag says which one is meant.
    """
    if args.no_load_optim or not hasattr(stored, "lr_decay_style"):
        return []
    there, here = _schedule(stored), _schedule(args)
    changes = [flag for flag in here if flag in there and there[flag] != here[flag]]
    if args.use_checkpoint_opt_param_scheduler:
        for name in _RATES.values():  # Megatron finds the groups of parameters by their rates
            if hasattr(stored, name):
                setattr(args, name, getattr(stored, name))
        return []
    if args.override_opt_param_scheduler:
        args.rates_of_checkpoint = {name: getattr(stored, name, None) for name in _RATES.values()}
        return []
    if not changes:
        return []
    told = "; ".join(f"{flag} {_short(there[flag])} there, {_short(here[flag])} here"
                     for flag in changes)  # fmt: skip
    constant = {here["--lr-decay-style"], here["--weight-decay-incr-style"]} == {"constant"}
    if not constant or not set(_LENGTHS).issuperset(changes):
        raise UserError(
            f"{where}: was trained by another schedule (lengths in samples): {told}. {OVERRIDE} "
            f"goes on by this run's, {USE_CHECKPOINT} by the checkpoint's"
        )
    args.override_opt_param_scheduler = True
    args.rates_of_checkpoint = {}
    return [f"{where}: goes on by the same constant schedule ({told}, in samples)"]


@contextmanager
def rates_of_this_run(args: argparse.Namespace, optimizer: Any) -> Iterator[None]:
    """While a checkpoint is loaded, let the saved groups of parameters have this run's rates.

    Megatron pairs saved groups with this run's by their rates, among others, and takes the saved
    ones' over, so that another --lr finds no group, whatever is overridden.

    Args:
        args: Megatron's, after :func:`check_schedule`.
        optimizer: of the run; None where there is none.
    """
    saved: Mapping[str, Any] = getattr(args, "rates_of_checkpoint", {})
    if optimizer is None or not saved:
        yield
        return
    load = optimizer.load_state_dict

    def load_state_dict(state: Any) -> None:
        for group in _groups(state):
            for key, name in _RATES.items():
                # A group of its own rate (as embeddings may have) keeps it.
                if group.get(key) is not None and group[key] == saved[name]:
                    group[key] = getattr(args, name)
        load(state)

    optimizer.load_state_dict = load_state_dict
    try:
        yield
    finally:
        del optimizer.load_state_dict


def _groups(state: Any) -> Iterator[dict[str, Any]]:
    """Every group of parameters in an optimizer's state, however it is nested."""
    if isinstance(state, dict):
        for key, value in state.items():
            if key == "param_groups":
                yield from value
            else:
                yield from _groups(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from _groups(value)


def _schedule(args: argparse.Namespace) -> dict[str, Any]:
    """What Megatron compares, by the flag that says it; lengths in samples."""
    if args.train_iters:
        size, total = args.global_batch_size, args.train_iters
        decay, warmup = args.lr_decay_iters or total, args.lr_warmup_iters
    else:
        size, total = 1, args.train_samples
        decay, warmup = args.lr_decay_samples or total, args.lr_warmup_samples
    if args.lr_warmup_fraction is not None:
        warmup = args.lr_warmup_fraction * decay
    return {
        "--lr": args.lr,
        "--min-lr": args.min_lr,
        "--lr-warmup-iters": warmup * size,
        "--lr-decay-iters": decay * size,
        "--lr-decay-style": args.lr_decay_style,
        "--train-iters": total * size,
        "--start-weight-decay": args.start_weight_decay,
        "--end-weight-decay": args.end_weight_decay,
        "--weight-decay-incr-style": args.weight_decay_incr_style,
    }


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
