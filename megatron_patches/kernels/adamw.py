# SPDX-License-Identifier: Apache-2.0
"""Which of torch's AdamW implementations an optimizer of Megatron runs, also after loading.

torch keeps ``fused`` and ``foreach`` in the parameter groups, so a checkpoint brings those of the
run that wrote it; and the fused kernel wants step counts on the parameters' device, where the
others want them on the host.
"""

from collections.abc import Iterator
from typing import Any

import torch

SETTINGS = {
    "fused": {"fused": True, "foreach": False},
    "foreach": {"fused": False, "foreach": True},
    "plain": {"fused": False, "foreach": False},
}


def select(optimizer: Any, implementation: str) -> None:
    """Let every AdamW within ``optimizer`` run an implementation, from now on and after loading.

    Args:
        optimizer: of Megatron, or of torch.
        implementation: key of ``SETTINGS``.
    """
    for inner in _adams(optimizer):
        _apply(inner, implementation)
        inner.register_load_state_dict_post_hook(lambda loaded: _apply(loaded, implementation))


def _adams(optimizer: Any) -> Iterator[torch.optim.Adam]:
    if isinstance(optimizer, torch.optim.Optimizer):
        if isinstance(optimizer, torch.optim.Adam):  # AdamW is an Adam
            yield optimizer
        return
    for part in getattr(optimizer, "chained_optimizers", None) or [optimizer.optimizer]:
        if part is not None:  # a rank without parameters
            yield from _adams(part)


def _apply(optimizer: torch.optim.Adam, implementation: str) -> None:
    settings = SETTINGS[implementation]
    optimizer.defaults.update(settings)
    for group in optimizer.param_groups:
        group.update(settings)
        for parameter in group["params"]:
            step = optimizer.state.get(parameter, {}).get("step")
            if isinstance(step, torch.Tensor):
                on_device = settings["fused"] or group["capturable"]
                device = parameter.device if on_device else torch.device("cpu")
                optimizer.state[parameter]["step"] = step.to(device)
