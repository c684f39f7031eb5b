# SPDX-License-Identifier: Apache-2.0
"""Position methods: one class each. A new one is a class in a file here and its import below."""

from e2_llm.config import E2Config
from e2_llm.methods.base import PositionMethod

from e2_llm.methods.e2 import E2Method  # isort: skip  # the order of these lines is that of --help
from e2_llm.methods.neighbours import CLEXMethod, GeNEMethod  # isort: skip
from e2_llm.methods.fixed import LinearMethod, Llama3Method, NTKMethod, PlainMethod, YaRNMethod
from e2_llm.methods.placed import (
    CREAMMethod,
    EndPromptMethod,
    PoSEMethod,
    RandomFloatMethod,
    RandomizedYaRNMethod,
    RandPosMethod,
)
from e2_llm.registry import method_class

__all__ = [
    "CLEXMethod",
    "CREAMMethod",
    "E2Method",
    "EndPromptMethod",
    "GeNEMethod",
    "LinearMethod",
    "Llama3Method",
    "NTKMethod",
    "PlainMethod",
    "PoSEMethod",
    "PositionMethod",
    "RandPosMethod",
    "RandomFloatMethod",
    "RandomizedYaRNMethod",
    "YaRNMethod",
    "method_for",
]


def method_for(config: E2Config) -> PositionMethod:
    """The method that a configuration names."""
    return method_class(config.position_method)(config)
