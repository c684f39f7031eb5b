# SPDX-License-Identifier: Apache-2.0
"""The families that the converters know: name maps as data, one file each."""

from typing import Any

from e2_common.errors import UserError
from e2_tools.checkpoint.families.family import Family
from e2_tools.checkpoint.families.llama import LLAMA
from e2_tools.checkpoint.families.mistral import MISTRAL
from e2_tools.checkpoint.families.qwen2 import QWEN2
from e2_tools.checkpoint.families.qwen3 import QWEN3
from e2_tools.checkpoint.families.refused import REASONS
from e2_tools.checkpoint.families.smollm3 import SMOLLM3

# Of families that Megatron's arguments do not tell apart, the first one is the default.
FAMILIES = {family.model_type: family for family in (LLAMA, MISTRAL, QWEN2, QWEN3, SMOLLM3)}
__all__ = ["FAMILIES", "Family", "family_of_arguments", "family_of_config"]


def family_of_config(config: dict[str, Any], path: object) -> Family:
    """The family that a config.json names.

    Raises:
        UserError: none that is known.
    """
    kind = config.get("model_type")
    family = FAMILIES.get(kind)
    if family is None:
        reason = f"; {REASONS[kind]}" if kind in REASONS else ""
        raise UserError(
            f"{path}: model_type {kind!r} cannot be converted{reason}; there are: "
            f"{', '.join(FAMILIES)}"
        )
    return family


def family_of_arguments(kind: frozenset[str]) -> Family:
    """The first family with these arguments of Megatron's, see :attr:`Family.kind`.

    Raises:
        UserError: no family combines them so.
    """
    for family in FAMILIES.values():
        if family.kind == kind:
            return family
    raise UserError(f"--load: no known family of models has {', '.join(sorted(kind))} together")
