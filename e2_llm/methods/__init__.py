# SPDX-License-Identifier: Apache-2.0
"""Position methods: one class each. A new one is a class in a file here and its import below."""

from e2_llm.config import E2Config
from e2_llm.methods.base import PositionMethod
from e2_llm.methods.e2 import E2Method  # the order of these lines is that of --help
from e2_llm.methods.fixed import LinearMethod, Llama3Method, NTKMethod, PlainMethod, YaRNMethod
from e2_llm.methods.pose import PoSEMethod
from e2_llm.methods.randpos import RandPosMethod
from e2_llm.registry import method_class

__all__ = [
    "E2Method",
    "LinearMethod",
    "Llama3Method",
    "NTKMethod",
    "PlainMethod",
    "PoSEMethod",
    "PositionMethod",
    "RandPosMethod",
    "YaRNMethod",
    "method_for",
]


def method_for(config: E2Config) -> PositionMethod:
    """The method that a configuration names."""
    return method_class(config.position_method)(config)
