# SPDX-License-Identifier: Apache-2.0
"""The ``e2_llm`` block of an exported model's config.json: what training knew and serving needs."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from e2_common.errors import UserError
from e2_llm.frequencies import RULES, Llama3Scaling, OwnRope, Rule
from e2_llm.methods.base import PositionMethod
from e2_llm.registry import METHODS
from e2_llm.serving import serving_scale

KEY = "e2_llm"
_LARGEST = 1e15  # of a base or a factor; beyond it are no models, and at last no floats


@dataclass(frozen=True, kw_only=True)
class Exported:
    """How a model was trained; windows in tokens.

    Attributes:
        method: the position method; ``none`` for a model that only changed its rule.
        frequencies: the rule that turns a scale into frequencies.
        rule_settings: what the rule depends on beside the scale; None if on nothing.
        rope_theta: θ before any scaling; None if config.json alone says it.
        own_factor: the linear factor that the model had before E2; it multiplies every scale.
        own_scaling: the llama3 scaling that the model had before E2, in the words of
            ``rope_parameters``; None if it had none.
        base_window: L.
        train_window: R; None if the model was not trained.
        max_scale: G_max; None if training met one scale.
        keep_first: tokens without offset; None if the method moves none.
        iteration: of the checkpoint.
        whole_scales: whether serving takes whole scales, as training did; None if that is what
            goes without saying: yes for a method that draws scales, no for others.
    """

    method: str = "none"
    frequencies: str = "linear"
    rule_settings: dict[str, Any] | None = None
    rope_theta: float | None = None
    own_factor: float = 1.0
    own_scaling: dict[str, Any] | None = None
    base_window: int
    train_window: int | None = None
    max_scale: int | None = None
    keep_first: int | None = None
    iteration: int | None = None
    whole_scales: bool | None = None

    @classmethod
    def of_training(
        cls,
        method: PositionMethod,
        *,
        own: OwnRope,
        iteration: int | None = None,
    ) -> Self:
        """What an export of a training run remembers.

        Args:
            method: of the run.
            own: the RoPE of the pre-trained model.
            iteration: of the checkpoint.
        """
        config, rule = method.config, method.rule
        many_scales = method.draws_scale() and method.trained_scale is None
        goes_without_saying = method.whole_scales == method.draws_scale()
        return cls(
            method=method.name,
            frequencies=rule.name if rule.name in RULES else "linear",
            rule_settings=rule.settings() or None,
            **_own_fields(own),
            base_window=config.base_window,
            train_window=config.train_window,
            max_scale=config.max_scale if many_scales else None,
            keep_first=method.kept_tokens,
            iteration=iteration,
            whole_scales=None if goes_without_saying else method.whole_scales,
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self | None:
        """Read the block of a config.json; None if it has none.

        Raises:
            UserError: the block is not one that an export writes.
        """
        block = config.get(KEY)
        if block is None:
            return None
        if not isinstance(block, dict) or not _is_count(block.get("base_window")):
            raise UserError("config.json: e2_llm has no base_window; export the model again")
        names = {item.name for item in dataclasses.fields(cls)}
        result = cls(**{name: value for name, value in block.items() if name in names})
        result._check()
        return result

    def _check(self) -> None:
        counts = ("train_window", "max_scale", "keep_first", "iteration")
        wrong = [name for name in counts if not _is_count(getattr(self, name), 0, optional=True)]
        if self.rope_theta is not None and not _is_positive(self.rope_theta):
            wrong.append("rope_theta")
        if not _is_positive(self.own_factor):
            wrong.append("own_factor")
        if not isinstance(self.frequencies, str) or self.frequencies not in RULES:
            wrong.append("frequencies")
        elif not isinstance(self.rule_settings, dict | None):
            wrong.append("rule_settings")
        else:
            _ = self.rule  # refuses settings that are not its own
        if self.own_scaling is not None:
            if isinstance(self.own_scaling, dict):
                Llama3Scaling.from_hf(self.own_scaling)
            else:
                wrong.append("own_scaling")
        if not isinstance(self.method, str):
            wrong.append("method")
        if not isinstance(self.whole_scales, bool | None):
            wrong.append("whole_scales")
        if wrong:
            found = ", ".join(f"{name} {getattr(self, name)!r}" for name in wrong)
            raise UserError(f"config.json: e2_llm has {found}; export the model again")

    def to_config(self, config: dict[str, Any]) -> dict[str, Any]:
        """A copy of a config.json with this block."""
        block = dataclasses.asdict(self)
        if self.own_factor == 1:
            del block["own_factor"]
        for name in ("rule_settings", "own_scaling", "whole_scales"):
            if block[name] is None:
                del block[name]
        return {**config, KEY: block}

    @property
    def rule(self) -> Rule:
        """What a scale does to the frequencies."""
        return RULES[self.frequencies].with_settings(self.rule_settings or {})

    def own(self, theta: float) -> OwnRope:
        """The RoPE that the model had before E2.

        Args:
            theta: its base, where the block does not hold it.
        """
        llama3 = Llama3Scaling.from_hf(self.own_scaling) if self.own_scaling else None
        theta = theta if self.rope_theta is None else self.rope_theta
        return OwnRope(float(theta), float(self.own_factor), llama3)

    @classmethod
    def untrained(cls, own: OwnRope, base_window: int) -> Self:
        """What there is to remember of a model that was not trained by us.

        Args:
            own: its RoPE.
            base_window: L, in tokens.
        """
        return cls(base_window=base_window, **_own_fields(own))

    @property
    def serves_any_window(self) -> bool:
        """Whether other scales than the trained one can be served."""
        return self.method in METHODS and METHODS[self.method].serves_any_window

    def serving_scale(self, window: int) -> float:
        """The scale at which ``window`` tokens are served, by the method that trained the model.

        Args:
            window: in tokens.

        Raises:
            UserError: the model knows one scale only, which config.json itself holds.
        """
        if not self.serves_any_window:
            raise UserError(
                f"config.json: this model was trained at one factor ({self.method}) and knows no "
                "other; only a model trained by E2-LLM serves any window"
            )
        whole = self.whole_scales
        if whole is None:
            whole = METHODS[self.method].draws_scale()
        return serving_scale(window, self.base_window, whole=whole)


def _own_fields(own: OwnRope) -> dict[str, Any]:
    return {
        "rope_theta": own.theta,
        "own_factor": own.factor,
        "own_scaling": own.llama3 and own.llama3.to_hf(),
    }


def trained_iterations(config: dict[str, Any]) -> int | None:
    """The iteration of the checkpoint that a config.json was exported from, if it says so.

    Unlike :meth:`Exported.from_config` this reads any block: old results hold old ones.
    """
    block = config.get(KEY)
    return block.get("iteration") if isinstance(block, dict) else None


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _LARGEST


def _is_count(value: Any, smallest: int = 1, *, optional: bool = False) -> bool:
    if value is None:
        return optional
    return isinstance(value, int) and not isinstance(value, bool) and value >= smallest
