# SPDX-License-Identifier: Apache-2.0
"""Parts of megatron.core without all of it, which takes seconds to import."""

import contextlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType

from e2_tools.corpus.quiet import quiet_imports

PACKAGE = "megatron.core"


@contextlib.contextmanager
def parts_of_megatron() -> Iterator[None]:
    """Let modules of megatron.core be imported in the body without the package's own start.

    For modules that need none of it, as its tokenizers. What was imported is forgotten behind the
    body, so that a later import finds the package whole; objects that were made stay. Where the
    package is imported already, nothing is special. What is said meanwhile is silenced.
    """
    with quiet_imports(), contextlib.ExitStack() as stack:
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
