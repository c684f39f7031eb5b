# SPDX-License-Identifier: Apache-2.0
"""Workarounds for defects of megatron-core 0.19.2, each with its reason.

Every replacement goes through :func:`replace`, which fails loudly when the name is gone, so that
a new Megatron version cannot silently run without its patch.
"""

import os
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


def apply() -> None:
    """Apply every fix; call once, before ``megatron.training.pretrain``."""
    skip_helper_compilation()


def skip_helper_compilation() -> None:
    """Do not run ``make`` for the dataset helpers, which the wheel ships built, without a Makefile.

    ``initialize_megatron`` calls ``make -C megatron/core/datasets`` and exits when that fails.
    """
    import megatron.core.datasets.utils as utils

    if os.path.exists(os.path.join(os.path.dirname(utils.__file__), "Makefile")):
        return  # a source tree: let it compile

    import megatron.core.datasets.helpers_cpp  # noqa: F401  (fails here if it is not built)

    replace(utils, "compile_helpers", lambda: None)
