# SPDX-License-Identifier: Apache-2.0
"""The native window of a model whose RoPE is scaled already: L, of which g counts multiples.

Two conventions are in use for ``max_position_embeddings`` beside a linear factor f. It is the
window that the scaled model serves (transformers' own, longchat, deepseek-coder), or the one before
the scaling, which the model then exceeds f times (vicuna-16k, the exports of LongLoRA). No key says
which, so every number that repeats a window is a sign.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from e2_common.errors import UserError
from e2_llm.window_keys import LENGTH, OVERRULES, WINDOW, is_window, repeated

SHORTEST = 2048  # tokens, Llama 1: below it no large model was pre-trained


@dataclass(frozen=True)
class NativeWindow:
    """What a config.json and the files beside it say.

    Attributes:
        window: L, in tokens.
        note: how it was read and what the other reading is; None where there is one reading.
    """

    window: int
    note: str | None = None


def native_window(
    config: Mapping[str, Any], rope: Mapping[str, Any], signs: Mapping[str, int]
) -> NativeWindow:
    """Decide which window the model serves with the RoPE that it has.

    Args:
        config: the dict of config.json.
        rope: its RoPE parameters, with ``rope_type`` among them.
        signs: windows that other files say, by a name for messages.

    Raises:
        UserError: there is no window, or the signs do not decide between two.
    """
    stated = config.get(WINDOW)
    if not is_window(stated):
        raise UserError(
            f"config.json: {WINDOW} is {stated!r}, a window in tokens is needed; "
            "is this a RoPE language model? --base-window names the window"
        )
    kind, before = rope["rope_type"], rope.get(OVERRULES, config.get(OVERRULES))
    if kind != "linear" and not (kind == "llama3" and before == stated):
        return NativeWindow(stated)
    factor = scaling_factor(rope)
    if factor <= 1:
        return NativeWindow(stated)
    signs = {**repeated(config), **signs}
    if is_window(config.get(LENGTH)) and config[LENGTH] > stated:
        signs[LENGTH] = config[LENGTH]
    return _Readings(kind, stated, factor, before, signs).decide()


def scaling_factor(rope: Mapping[str, Any]) -> float:
    """The ``factor`` of RoPE parameters, 1 without one.

    Raises:
        UserError: it is no positive number.
    """
    factor = rope.get("factor", 1.0)
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
        raise UserError(f"config.json: the RoPE factor is {factor!r}, a positive number is needed")
    return float(factor)


@dataclass(frozen=True)
class _Readings:
    kind: str
    stated: int
    factor: float
    before: Any
    signs: Mapping[str, int]

    def decide(self) -> NativeWindow:
        extended = {name: value for name, value in self.signs.items() if self._is_extended(value)}
        if self.before == self.stated and self.kind == "linear":
            extended = extended or {OVERRULES: self._product}
        original = [name for name, value in self.signs.items() if self._is_original(value)]
        if self._is_original(self.before):
            original.append(OVERRULES)
        larger = [name for name, value in self.signs.items() if value > self.stated]
        if extended and not original and len(set(extended.values())) == 1:
            (window,) = set(extended.values())
            return self._read(window, self.stated, extended)
        if original and not larger:
            return self._read(self.stated, self._product, original)
        too_short = self.stated / self.factor < SHORTEST <= self.stated
        if extended or original or larger or too_short or self.kind != "linear":
            raise UserError(
                f"config.json: L cannot be decided: {self._scaling()}{self._told()}; as the window "
                f"of the scaled model that gives L = {self.stated}, as the window before it "
                f"{self._product}; say by --base-window which window the model serves"
            )
        confirmed = [name for name, value in self.signs.items() if value == self.stated]
        return self._read(self.stated, self._product, confirmed)

    @property
    def _product(self) -> int:
        return round(self.stated * self.factor)

    def _is_extended(self, value: int) -> bool:
        """Whether it is what the factor makes of the stated window; f was often rounded up."""
        if abs(value - self.stated * self.factor) <= 1:
            return True
        return value > self.stated and math.ceil(value / self.stated) == self.factor

    def _is_original(self, value: Any) -> bool:
        return is_window(value) and abs(value - self.stated / self.factor) <= 1

    def _scaling(self) -> str:
        return f"{self.kind} RoPE of factor {self.factor:g} at {WINDOW} {self.stated}"

    def _told(self) -> str:
        signs = dict(self.signs) | ({OVERRULES: self.before} if self.before is not None else {})
        return "".join(f", {name} {value}" for name, value in signs.items())

    def _read(self, window: int, other: int, because: Any) -> NativeWindow:
        reason = f" (by {', '.join(because)})" if because else ""
        return NativeWindow(
            window,
            f"{self._scaling()}{self._told()}: L is read as {window}{reason}, the other reading is "
            f"{other}; --base-window overrules",
        )
