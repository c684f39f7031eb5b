# SPDX-License-Identifier: Apache-2.0
"""Position methods by name; importing ``e2_llm`` fills it.

Flags, choices, refusals, help, the start-up report, the model card and the plots follow from what
the classes in it say of themselves.
"""

from typing import Any

from e2_common.errors import UserError

# Name -> subclass of ``e2_llm.methods.PositionMethod``.
METHODS: dict[str, type[Any]] = {}


def register[Method: type](method: Method) -> Method:
    """Add a method; a decorator of its class.

    Raises:
        ValueError: another class has its name.
    """
    if METHODS.setdefault(method.name, method) is not method:
        raise ValueError(f"two position methods are called {method.name!r}")
    return method


def method_class(name: str) -> type[Any]:
    """The class that ``--position-method`` names.

    Raises:
        UserError: there is none of that name.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise UserError(
            f"--position-method {name}: no such method; there are {', '.join(METHODS)}"
        ) from None


def methods_that_read(field: str) -> list[str]:
    """The names of the methods that read a field of the configuration.

    Empty for a field that belongs to no method: every run reads it.
    """
    return [name for name, method in METHODS.items() if field in method.reads]
