# SPDX-License-Identifier: Apache-2.0
"""LongRoPE: a searched factor for every frequency, from a file."""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

from e2_common.errors import UserError
from e2_common.json_file import read_json_object
from e2_llm.frequencies.own import OwnRope
from e2_llm.frequencies.rule import Frequencies, Rule

FLAG = "--e2-longrope-factors"


@dataclass(frozen=True)
class Factors:
    """What divides the frequencies at one scale.

    Attributes:
        long: at ``factor``, [d / 2].
        short: at g = 1, [d / 2]; None for the model's own frequencies.
        factor: G, the scale that ``long`` is for.
        attention_factor: m at G; None for what transformers computes.
        window: the pre-trained window that they were searched for, in tokens; None if unknown.
    """

    long: tuple[float, ...]
    short: tuple[float, ...] | None
    factor: float
    attention_factor: float | None
    window: int | None


@dataclass(frozen=True)
class LongRoPE(Rule):
    """LongRoPE: frequency i divided by its own factor (arXiv 2402.13753, 2502.20082).

    A list is for one scale G. At another scale g the factors are long^u short^(1-u) with
    u = ln g / ln G: the list's at g = G, the original at g = 1, and geometric between, as the
    frequencies themselves are. m follows transformers, √(1 + ln g / ln L), or is the list's own m
    to the power u.

    Attributes:
        longrope_factors: the content of the file, as :func:`read_factors` makes it.
    """

    longrope_factors: str | None = None

    name: ClassVar[str] = "longrope"
    title: ClassVar[str] = "LongRoPE's factor lists (arXiv 2402.13753)"
    has_attention_factor: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ("longrope_factors",)

    @property
    def original_at_one(self) -> bool:
        """Unless the file has factors for short texts, too."""
        return self.longrope_factors is None or parsed(self.longrope_factors).short is None

    def settings(self) -> dict[str, Any]:
        """See :meth:`Rule.settings`."""
        return {"longrope_factors": json.loads(self.longrope_factors)}

    def with_settings(self, settings: dict[str, Any]) -> Self:
        """See :meth:`Rule.with_settings`."""
        found = settings.get("longrope_factors")
        if isinstance(found, dict):
            settings = {**settings, "longrope_factors": canonical(found, "e2_llm")}
        return super().with_settings(settings)

    def check(self) -> None:
        """See :meth:`Rule.check`."""
        super().check()
        if not isinstance(self.longrope_factors, str):
            raise UserError(f"{FLAG}: {type(self.longrope_factors).__name__}, not a file's content")
        read_factors(self.longrope_factors)

    def scaled(self, own: OwnRope, dim: int, scale: float, base_window: int) -> Frequencies:
        """See :meth:`Rule.scaled`."""
        import torch

        factors = parsed(self.longrope_factors)
        if len(factors.long) != dim // 2:
            raise UserError(
                f"{FLAG}: {len(factors.long)} factors, but the model has {dim // 2} frequencies"
            )
        if factors.window not in (None, base_window):
            raise UserError(
                f"{FLAG}: the factors are for a pre-trained window of {factors.window} tokens "
                f"(original_max_position_embeddings), here L is {base_window}"
            )
        share = math.log(scale) / math.log(factors.factor)
        divisor = torch.tensor(factors.long, dtype=torch.float64) ** share
        if factors.short is not None:
            divisor = divisor * torch.tensor(factors.short, dtype=torch.float64) ** (1 - share)
        if factors.attention_factor is None:
            attention_factor = math.sqrt(1 + math.log(scale) / math.log(base_window))
        else:
            attention_factor = factors.attention_factor**share
        return Frequencies(own.inverse(dim) / divisor.float(), attention_factor)


def read_factors(path: str) -> str:
    """Read a file of factors: ``rope_scaling`` of a config.json, or the config.json itself.

    Raises:
        UserError: it cannot be read, or holds no factors.
    """
    if path.startswith("{"):  # what was read already, as a checkpoint stores it
        try:
            return canonical(json.loads(path), FLAG)
        except ValueError as error:
            raise UserError(f"{FLAG}: {path[:40]}... is no JSON") from error
    where = f"{FLAG} {path}"
    if not Path(path).is_file():
        raise UserError(f"{where}: no such file")
    content = read_json_object(Path(path))
    rope = content.get("rope_parameters") or content.get("rope_scaling") or content
    if not isinstance(rope, dict):
        raise UserError(f"{where}: has no long_factor; give a JSON file as LongRoPE's")
    rope = dict(rope)
    before = "original_max_position_embeddings"
    rope.setdefault(before, content.get(before))
    window = content.get("max_position_embeddings")
    if rope.get("factor") is None and window and rope[before]:
        rope["factor"] = window / rope[before]
    return canonical(rope, where)


def canonical(rope: dict[str, Any], where: str) -> str:
    """The factors as one line of JSON, always the same for the same factors.

    Args:
        rope: with ``long_factor``, ``factor`` (G) and perhaps ``short_factor``,
            ``attention_factor`` and ``original_max_position_embeddings``.
        where: for messages.

    Raises:
        UserError: a value is missing or makes no sense.
    """
    long, short = rope.get("long_factor"), rope.get("short_factor")
    for name, values in (("long_factor", long), ("short_factor", short)):
        if name == "short_factor" and values is None:
            continue
        if not isinstance(values, list) or not values or not all(map(_is_positive, values)):
            raise UserError(f"{where}: {name} must be a list of positive numbers")
    if short is not None and len(short) != len(long):
        raise UserError(f"{where}: short_factor has {len(short)} numbers, long_factor {len(long)}")
    if short == long or (short and set(short) == {1}):
        short = None  # a list for short texts that says nothing of its own
    factor = rope.get("factor")
    if not _is_positive(factor) or factor <= 1:
        raise UserError(f"{where}: factor is {factor!r}; the scale of long_factor, above 1")
    for name in ("attention_factor", "original_max_position_embeddings"):
        if rope.get(name) is not None and not _is_positive(rope[name]):
            raise UserError(f"{where}: {name} {rope[name]!r} is no positive number")
    kept = {
        "long_factor": long,
        "short_factor": short,
        "factor": factor,
        "attention_factor": rope.get("attention_factor"),
        "original_max_position_embeddings": rope.get("original_max_position_embeddings"),
    }
    return json.dumps({name: value for name, value in kept.items() if value is not None})


@lru_cache(maxsize=16)
def parsed(text: str) -> Factors:
    """What :func:`canonical` made, read back."""
    rope = json.loads(read_factors(text))
    short = rope.get("short_factor")
    return Factors(
        long=tuple(rope["long_factor"]),
        short=short and tuple(short),
        factor=float(rope["factor"]),
        attention_factor=rope.get("attention_factor"),
        window=rope.get("original_max_position_embeddings"),
    )


def _is_positive(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    )
