# SPDX-License-Identifier: Apache-2.0
"""Megatron's tokenizers without the rest of Megatron and without torch, which take seconds.

Its tokenizers need neither; their modules import both. A command that only tokenises would wait
for these imports longer than for anything else.
"""

import contextlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

from e2_tools.corpus.quiet import quiet_imports

CORE = "megatron.core"
LEFT_OUT = ("torch.", "transformers.", f"{CORE}.")  # and what has seen that others are


def with_megatrons_tokenizers[Loaded](load: Callable[[Any], Loaded]) -> Loaded:
    """Return ``load(megatron.core.tokenizers)``.

    Where neither is imported yet, empty modules stand in for torch and megatron.core meanwhile.
    They are forgotten behind it, with transformers, so that a later import finds all of them whole;
    objects that were made stay. Whatever fails there is tried again with the real ones.

    Args:
        load: makes a tokenizer; may be called twice.

    Raises:
        Exception: what ``load`` raises with the real ones.
    """
    if CORE not in sys.modules:
        with contextlib.suppress(Exception), _stand_ins():
            return load(_tokenizers())
    with quiet_imports():
        return load(_tokenizers())


def _tokenizers() -> ModuleType:
    import megatron.core.tokenizers

    return megatron.core.tokenizers


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    import megatron

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    before, disabled = set(sys.modules), logging.root.manager.disable
    logging.disable(logging.WARNING)  # that there is no torch
    try:
        if not {"torch", "transformers"} & before:
            sys.modules["torch"] = None  # how Python says that a module cannot be imported
            from transformers.utils import is_torch_available

            is_torch_available()  # is remembered
            torch = _torch()
            sys.modules |= {"torch": torch, "torch.hub": torch.hub}
        core = ModuleType(CORE)
        core.__path__ = list(find_spec(CORE).submodule_search_locations)
        sys.modules[CORE] = core
        sys.modules[f"{CORE}.utils"] = core.utils = _utils()
        megatron.core = core
        yield
    finally:
        for name in set(sys.modules) - before:
            if f"{name}.".startswith(LEFT_OUT):
                del sys.modules[name]
        vars(megatron).pop("core", None)
        logging.disable(disabled)


def _torch() -> ModuleType:
    """What Megatron's tokenizers name of torch: nobody has a tensor, and there is one process."""
    hollow, hub = ModuleType("torch"), ModuleType("torch.hub")
    hub._get_torch_home = os.getcwd  # of one that downloads its vocabulary
    hollow.hub, hollow.Tensor = hub, type("Tensor", (), {})
    hollow.distributed = SimpleNamespace(is_initialized=lambda: False)
    return hollow


def _utils() -> ModuleType:
    """What Megatron's tokenizers take from ``megatron.core.utils``, in one process."""
    hollow = ModuleType(f"{CORE}.utils")
    hollow.log_single_rank = lambda logger, level, *words, **_: logger.log(level, *words)
    hollow.accepts_parameter = _accepts
    return hollow


def _accepts(function: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(function).parameters
    return name in parameters or any(
        each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()
    )
