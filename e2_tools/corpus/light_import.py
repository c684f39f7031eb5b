# SPDX-License-Identifier: Apache-2.0
"""Parts of megatron.core without all of it, which takes seconds and torch to import."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType

PACKAGE = "megatron.core"


@contextlib.contextmanager
def parts_of_megatron() -> Iterator[None]:
    """Let modules of megatron.core be imported in the body without the package's own start.

    For modules that need none of it, as its tokenizers. What was imported is forgotten behind the
    body, so that a later import finds the package whole; objects that were made stay. Where the
    package is imported already, nothing is special. What the libraries say meanwhile is silenced.
    """
    # Each worker tokenises one document at a time: threads inside it would only compete.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")
        for name in ("transformers", "megatron"):
            logging.getLogger(name).setLevel(logging.ERROR)
        if PACKAGE not in sys.modules:
            stack.enter_context(_hollow_package())
        yield


@contextlib.contextmanager
def _hollow_package() -> Iterator[None]:
    """Megatron.core as a package in which nothing was run, only found."""
    import megatron

    hollow = ModuleType(PACKAGE)
    hollow.__path__ = list(find_spec(PACKAGE).submodule_search_locations)
    sys.modules[PACKAGE] = megatron.core = hollow
    try:
        import megatron.core.parallel_state  # noqa: F401  (it and utils import each other)

        yield
    finally:
        for name in [name for name in sys.modules if f"{name}.".startswith(f"{PACKAGE}.")]:
            del sys.modules[name]
        del megatron.core
