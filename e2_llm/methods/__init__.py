# SPDX-License-Identifier: Apache-2.0
"""Position methods by name. A method is one class; a new one is a class and a line here.

Flags, choices, refusals, help, the start-up report, the model card and the plots follow from what
the class says of itself.
"""

from typing import TYPE_CHECKING

from e2_common.errors import UserError
from e2_llm.methods.base import PositionMethod
from e2_llm.methods.e2 import E2Method
from e2_llm.methods.fixed import LinearMethod, Llama3Method, NTKMethod, PlainMethod, YaRNMethod
from e2_llm.methods.pose import PoSEMethod
from e2_llm.methods.randpos import RandPosMethod

if TYPE_CHECKING:
    from e2_llm.config import E2Config

METHODS: dict[str, type[PositionMethod]] = {}


def register[Method: type[PositionMethod]](method: Method) -> Method:
    """Add a method to :data:`METHODS`; usable as a decorator from outside this package.

    Raises:
        ValueError: another class has its name.
    """
    if METHODS.setdefault(method.name, method) is not method:
        raise ValueError(f"two position methods are called {method.name!r}")
    return method


for _method in (
    E2Method,
    PlainMethod,
    LinearMethod,
    NTKMethod,
    YaRNMethod,
    Llama3Method,
    PoSEMethod,
    RandPosMethod,
):
    register(_method)


def method_class(name: str) -> type[PositionMethod]:
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


def method_for(config: "E2Config") -> PositionMethod:
    """The method that a configuration names."""
    return method_class(config.position_method)(config)
