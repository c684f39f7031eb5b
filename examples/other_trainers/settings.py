# SPDX-License-Identifier: Apache-2.0
"""The settings of E2-LLM as other trainers' files of settings hold them."""

from collections.abc import Mapping
from typing import Any

from e2_common.errors import UserError
from e2_llm.config import E2Config
from e2_llm.recipes import RECIPES
from e2_llm.window import base_window

KNOWN = {*E2Config.__dataclass_fields__, "recipe"}


def e2_config(given: Mapping[str, Any], model: Mapping[str, Any], train_window: int) -> E2Config:
    """The configuration of a run.

    Args:
        given: fields of ``E2Config``, and ``recipe``, ``paper`` or ``best``.
        model: the dict of the model's ``config.json``, which says L where ``given`` does not.
        train_window: R, the longest window that the trainer makes, in tokens.

    Raises:
        UserError: a name or a value is not known, or L cannot be read.
    """
    unknown = sorted(set(given) - KNOWN)
    if unknown:
        raise UserError(f"e2: {', '.join(unknown)}: no such setting; there are {sorted(KNOWN)}")
    recipe = given.get("recipe", "paper")
    if recipe not in RECIPES:
        raise UserError(f"e2: recipe {recipe!r}: is none of {', '.join(RECIPES)}")
    fields = {name: value for name, value in given.items() if name != "recipe"}
    known = {"base_window": fields.get("base_window") or base_window(model)}
    return E2Config(**{"train_window": train_window} | RECIPES[recipe] | fields | known)
