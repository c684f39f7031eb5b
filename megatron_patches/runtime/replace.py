# SPDX-License-Identifier: Apache-2.0
"""How a name of torch or Megatron is changed in place: loudly, when it is gone."""

import sys
from types import ModuleType
from typing import Any

_MISSING = object()


def replace(owner: ModuleType | type, name: str, new: Any) -> Any:
    """Set ``owner.name = new`` and return what stood there.

    Raises:
        RuntimeError: ``owner`` has no such name.
    """
    old = getattr(owner, name, _MISSING)
    if old is _MISSING:
        raise RuntimeError(
            f"{owner.__name__}.{name} is gone: this patch was written for megatron-core 0.19.2 "
            "and torch 2.11; install the pins of constraints.txt or revise the patch"
        )
    setattr(owner, name, new)
    return old


def replace_everywhere(owner: ModuleType, name: str, new: Any) -> None:
    """Set ``owner.name = new``, also where a module of Megatron has imported it by any name.

    Raises:
        RuntimeError: ``owner`` has no such name.
    """
    old = replace(owner, name, new)
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("megatron."):
            for key, value in list(vars(module).items()):
                if value is old:
                    setattr(module, key, new)
