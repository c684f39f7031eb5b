# SPDX-License-Identifier: Apache-2.0
"""Workarounds for defects of megatron-core 0.19.2, each with its reason.

Every replacement goes through :func:`~megatron_patches.runtime.replace.replace`, which fails loudly
when the name is gone, so that a new Megatron version cannot silently run without its patch.
"""

import argparse
import os
import queue
from typing import Any

from megatron_patches.runtime.replace import replace

_applied = False


def apply() -> None:
    """Apply every fix, once; call before ``megatron.training.pretrain``."""
    global _applied
    if _applied:
        return
    _applied = True
    skip_helper_compilation()
    load_fp32_main_parameters()
    resume_distributed_optimizer_on_torch_adamw()
    keep_results_of_saves_in_process()


def skip_helper_compilation() -> None:
    """Do not run ``make`` for the dataset helpers, which the wheel ships built, without a Makefile.

    ``initialize_megatron`` calls ``make -C megatron/core/datasets`` and exits when that fails.
    """
    import megatron.core.datasets.utils as utils

    if os.path.exists(os.path.join(os.path.dirname(utils.__file__), "Makefile")):
        return  # a source tree: let it compile

    import megatron.core.datasets.helpers_cpp  # noqa: F401  (fails here if it is not built)

    replace(utils, "compile_helpers", lambda: None)


def escape_percent_signs(parser: argparse.ArgumentParser) -> None:
    """Let ``--help`` work: some help texts of Megatron hold a bare %, which argparse formats."""
    formatter = parser.formatter_class(parser.prog)
    for action in parser._actions:
        try:
            formatter._expand_help(action)
        except (ValueError, TypeError, KeyError):
            action.help = action.help.replace("%", "%%")


def load_fp32_main_parameters() -> None:
    """Let a distributed optimizer in fp32 load a checkpoint without fully reshardable states.

    The main parameter is then a view of the model's own, and of the loaders that copy into it
    ``load_parameter_state_from_dp_reshardable`` alone forgets ``no_grad``: "a view of a leaf
    Variable that requires grad is being used in an in-place operation" (no thread upstream).
    """
    import torch
    from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

    @torch.no_grad()
    def set_states(self: Any, model_param: Any, tensors: dict[str, Any]) -> None:
        original(self, model_param, tensors)

    original = replace(DistributedOptimizer, "_set_main_param_and_optimizer_states", set_states)


def resume_distributed_optimizer_on_torch_adamw() -> None:
    """Let a distributed optimizer on torch's AdamW load a checkpoint, and load it right.

    Without apex and Transformer Engine the inner optimizer is ``torch.optim.AdamW``, which keeps
    its step count as a tensor per parameter. ``DistributedOptimizer`` then (no thread upstream)

    - asserts in ``state_dict`` that there is exactly one step, but a fresh AdamW, into which a
      checkpoint is loaded, has none: we give it the state of its first step, all zero;
    - looks for ``step`` among a parameter's saved tensors, where it is not, or where it is the
      zero of before loading, so that the bias correction begins anew: we leave it out;
    - gives all parameters one shared step tensor, which AdamW then increments once for each, so
      that the bias correction is silently wrong from the second step on: we clone it.
    """
    import torch
    from megatron.core.optimizer import distrib_optimizer

    if distrib_optimizer.HAVE_APEX_OR_TE:
        return
    optimizer_class = distrib_optimizer.DistributedOptimizer

    def state_dict(self: Any) -> Any:
        inner = self.optimizer
        if isinstance(inner, torch.optim.Adam) and not inner.state:  # AdamW is an Adam
            for group in inner.param_groups:
                # Where this implementation of AdamW itself would put the count.
                on_device = group.get("fused") or group.get("capturable")
                for parameter in group["params"]:
                    device = parameter.device if on_device else "cpu"
                    inner.state[parameter] = {
                        "step": torch.zeros((), dtype=torch.float32, device=device),
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }
        return original_state_dict(self)

    def set_states(self: Any, model_param: Any, tensors: dict[str, Any]) -> None:
        original_set_states(self, model_param, {**tensors, "step": None})

    def load_state_dict(self: Any, state_dict: Any) -> None:
        original_load(self, state_dict)
        for state in self.optimizer.state.values():
            if isinstance(state.get("step"), torch.Tensor):
                state["step"] = state["step"].clone()

    original_state_dict = replace(optimizer_class, "state_dict", state_dict)
    original_set_states = replace(
        optimizer_class, "_set_main_param_and_optimizer_states", set_states
    )
    original_load = replace(optimizer_class, "load_state_dict", load_state_dict)


def keep_results_of_saves_in_process() -> None:
    """Let a save that is waited for hand over its results without another process.

    Megatron's queue for them lives in a process of its own, which imports torch to receive the
    first: seconds of the first save, and memory of every rank that saves. It is what asynchronous
    saves need (no thread upstream).
    """
    from megatron.core.dist_checkpointing.strategies import filesystem_async
    from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy

    waited_for = False

    def save(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal waited_for
        waited_for = True
        try:
            return original_save(self, *args, **kwargs)
        finally:
            waited_for = False

    def results_queue(*args: Any, **kwargs: Any) -> Any:
        return queue.Queue() if waited_for else original_queue(*args, **kwargs)

    original_save = replace(TorchDistSaveShardedStrategy, "save", save)
    original_queue = replace(filesystem_async, "get_write_results_queue", results_queue)
