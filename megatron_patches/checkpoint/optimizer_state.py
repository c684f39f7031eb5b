# SPDX-License-Identifier: Apache-2.0
"""Going on with the optimizer's state that a checkpoint holds, or saying that it cannot be.

Megatron finds out while loading, by the name of a missing tensor or key.
"""

import argparse
from typing import Any

import torch

from e2_common.errors import UserError

# What decides which state an optimizer has, and how a checkpoint holds it.
_KINDS = {
    "--optimizer": lambda args: args.optimizer,
    "--use-distributed-optimizer": lambda args: bool(args.use_distributed_optimizer),
    "--bf16 or --fp16": lambda args: bool(args.bf16 or args.fp16),
    "--use-precision-aware-optimizer": lambda args: bool(args.use_precision_aware_optimizer),
    "--optimizer-cpu-offload": lambda args: bool(args.optimizer_cpu_offload),
}
_MEND = "--no-load-optim goes on with a fresh one, --finetune starts anew from the weights"


def check_optimizer_state(stored: argparse.Namespace, args: argparse.Namespace, where: str) -> None:
    """Whether a resumed run can take over the optimizer's state of its checkpoint.

    Args:
        stored: arguments of the checkpoint.
        args: Megatron's, of this run, validated.
        where: the flag and the folder of the checkpoint, for messages.

    Raises:
        UserError: the state is not there, or is that of another optimizer.
    """
    if args.no_load_optim:
        return
    if getattr(stored, "no_save_optim", None):
        raise UserError(
            f"{where}: holds no state of the optimizer (it was saved with --no-save-optim): {_MEND}"
        )
    try:
        kinds = {flag: (kind(stored), kind(args)) for flag, kind in _KINDS.items()}
    except AttributeError:  # of another version of Megatron
        return
    changes = [
        f"{flag} is {there} there and {here} here"
        for flag, (there, here) in kinds.items()
        if there != here
    ]
    if changes:
        raise UserError(
            f"{where}: holds the state of another optimizer: {'; '.join(changes)}: use the same, "
            f"or {_MEND}"
        )


def let_sgd_load(optimizer: Any) -> None:
    """Give SGD what it needs to load: Megatron makes room for the state of Adam alone.

    Args:
        optimizer: Megatron's, of the run; None where there is none.
    """
    for one in getattr(optimizer, "chained_optimizers", [optimizer]):
        config = getattr(one, "config", None)
        if getattr(config, "optimizer", None) == "sgd" and one.init_state_fn is None:
            one.init_state_fn = _make_room_for_momentum


def _make_room_for_momentum(optimizer: torch.optim.Optimizer, config: Any = None) -> None:
    """Momentum of zero, with which SGD's next step is its first one."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if group.get("momentum") and not optimizer.state[parameter]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
