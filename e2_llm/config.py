# SPDX-License-Identifier: Apache-2.0
"""E2Config: every choice of the method in one dataclass; the command-line flags come from it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from e2_common.errors import UserError
from e2_llm.frequencies import RULES
from e2_llm.frequencies.longrope import read_factors
from e2_llm.placements import PLACEMENTS
from e2_llm.placements.joints import read_ids
from e2_llm.registry import METHODS, method_class, methods_that_read
from e2_llm.scales import DISTRIBUTIONS

# What shares a draw, and how people call it.
DRAW_UNITS = {"microbatch": "micro-batch", "sample": "sample", "iteration": "iteration"}


def _choices_help(choices: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {choice.help}" for name, choice in choices.items()) + "."


def _flag(default: Any, help: Any, **options: Any) -> Any:
    """A field that is also a flag; ``options`` go to ``argparse.add_argument``.

    What depends on the methods that are registered is a function without arguments.
    """
    return field(default=default, metadata={"help": help, **options})


@dataclass(frozen=True, kw_only=True)
class E2Config:
    """How the positions of a training window are made (arXiv 2401.06951, section 4.1).

    ``base_window`` is L, ``train_window`` is R, both in tokens. Field ``x`` is the flag ``--e2-x``
    (``position_method`` is ``--position-method``). ``planned_samples`` is the number of windows
    that the whole run trains on, 0 without a curriculum.

    Raises:
        UserError: on creation, when a value is out of range or two contradict each other.
    """

    position_method: str = _flag(
        "e2", lambda: _choices_help(METHODS), choices=lambda: tuple(METHODS)
    )
    base_window: int = _flag(
        0,
        "L, the window in tokens that the model was pre-trained with. "
        "Default: --max-position-embeddings.",
        type=int,
        metavar="L",
    )
    train_window: int = 0
    frequencies: str = _flag(
        "linear",
        "What a scale does to the frequencies, for methods that are not named after it. "
        + "; ".join(f"{name}: {rule.title}" for name, rule in RULES.items())
        + ".",
        choices=tuple(RULES),
    )
    theta: float | None = _flag(
        None,
        "The base of RoPE that training goes on with, for the frequencies abf.",
        type=float,
        metavar="THETA",
    )
    longrope_factors: str | None = _flag(
        None,
        "The factor lists of the frequencies longrope: a JSON file with long_factor and factor, as "
        "rope_scaling of a config.json, or that config.json.",
        type=read_factors,
        metavar="FILE",
    )
    max_scale: int = _flag(
        20, "G_max: g is drawn uniformly from {1..G_max} (Eq 6).", type=int, metavar="G_MAX"
    )
    min_scale: float = _flag(
        1.0,
        "The smallest scale drawn; with R > L at least R / L, or windows do not fit.",
        type=float,
        metavar="G_MIN",
    )
    scale_distribution: str = _flag(
        "uniform-integer",
        f"How g is drawn between the smallest and G_max. {_choices_help(DISTRIBUTIONS)}",
        choices=tuple(DISTRIBUTIONS),
    )
    base_share: float = _flag(
        0.0, "Share of the draws kept at the smallest scale.", type=float, metavar="P"
    )
    placement: str = _flag(
        "offset",
        "Where the tokens of a window lie in the extended one: a name, or names with their shares "
        f"of the draws as in skips:0.7,random:0.3. {_choices_help(PLACEMENTS)}",
        metavar="PLACEMENT",
    )
    skips: int = _flag(8, "The most cuts of placement skips.", type=int, metavar="N")
    keep_first: int = _flag(
        4, "How many leading tokens placement offset leaves alone (Eq 7).", type=int, metavar="N"
    )
    sentence_ends: str | None = _flag(
        None,
        "The tokens that end a sentence, for placement sentences: a file of their ids, apart by "
        "white space. Default: those of the tokenizer whose text ends with . ! ? or a line break.",
        type=read_ids,
        metavar="FILE",
    )
    curriculum: tuple[float, ...] = _flag(
        (),
        "Shares of the extended window that draws may use, in equal stages of the run, as in "
        "0.5 0.75 1. Default: all of it; randomized-yarn: 0.5 0.625 0.75 1.",
        type=float,
        nargs="+",
        metavar="SHARE",
    )
    planned_samples: int = 0
    draw_per: str = _flag(
        "microbatch",
        "What shares a draw: the samples of a micro-batch, only the sample itself, or the whole "
        "global batch of an iteration.",
        choices=tuple(DRAW_UNITS),
    )
    no_offset: bool = _flag(
        False, "Ablation: always t = 0 (Table 4, w/o augmentation on t).", action="store_true"
    )
    fixed_scale: float | None = _flag(
        None,
        "Ablation: always this g (Table 4, w/o augmentation on g).",
        type=float,
        metavar="G",
    )
    factor: float = _flag(
        1.0,
        "The fixed factor W / L of every method that draws no scale.",
        type=float,
        metavar="FACTOR",
    )
    validation_windows: tuple[int, ...] = _flag(
        (),
        "At every validation also log one loss per window W (in tokens): true windows of W "
        "tokens at g = W / L and t = 0; and by how much the first half of a window lowers the loss "
        "of its last quarter.",
        type=int,
        nargs="+",
        metavar="W",
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name in ("base_window", "train_window", "max_scale", "skips"):
            if getattr(self, name) < 1:
                raise UserError(f"{flag_name(name)} {getattr(self, name)}: must be at least 1")
        if self.keep_first < 0:
            raise UserError(f"--e2-keep-first {self.keep_first}: must not be negative")
        for name in ("min_scale", "fixed_scale", "factor"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{flag_name(name)} {value}: must be at least 1")
        if not 0 <= self.base_share <= 1:
            raise UserError(f"--e2-base-share {self.base_share}: must be between 0 and 1")
        for share in self.curriculum:
            if not 0 < share <= 1:
                raise UserError(f"--e2-curriculum {share}: must be above 0 and at most 1")
        self._check_choices()
        self._check_method()
        for window in self.validation_windows:
            if window < 2:
                raise UserError(f"--e2-validation-windows {window}: must be at least 2")

    def _check_choices(self) -> None:
        """Refuse words that argparse did not see, as those of a checkpoint.

        The name of the method is refused by ``method_class``.
        """
        for item in dataclasses.fields(self):
            choices = item.metadata.get("choices", ())
            if isinstance(choices, tuple) and choices and getattr(self, item.name) not in choices:
                raise UserError(
                    f"{flag_name(item.name)} {getattr(self, item.name)}: no such choice; there are "
                    f"{', '.join(choices)}"
                )

    def _check_method(self) -> None:
        """Refuse flags that the method would ignore, and those that contradict each other."""
        method = method_class(self.position_method)(self)
        for item in dataclasses.fields(self):
            readers = methods_that_read(item.name)
            if readers and item.name not in method.reads and self.is_given(item.name):
                raise UserError(
                    f"{flag_name(item.name)} is only for --position-method "
                    f"{', '.join(readers)}, not {self.position_method}"
                )
        self._check_rule(method.rule)
        if "factor" in method.reads and self.factor == 1:
            raise UserError(f"--position-method {self.position_method} needs --e2-factor above 1")
        method.check()
        if self.train_window > method.largest_window:
            raise UserError(
                f"--seq-length {self.train_window} is more than the largest scale can hold "
                f"({method.largest_window} = g * L); lower it, or raise "
                f"{method.flag_of_largest_scale}"
            )

    def _check_rule(self, rule: Any) -> None:
        """Refuse what the frequencies would ignore, and what they lack."""
        for item in dataclasses.fields(self):
            readers = [name for name, other in RULES.items() if item.name in other.reads]
            if readers and item.name not in rule.reads and self.is_given(item.name):
                raise UserError(
                    f"{flag_name(item.name)} is only for the frequencies {', '.join(readers)}, not "
                    f"{rule.name}"
                )
        rule.check()

    def is_given(self, name: str) -> bool:
        """Whether a field differs from its default."""
        return getattr(self, name) != self.__dataclass_fields__[name].default

    def warnings(self) -> list[str]:
        """What is allowed but worth knowing, one line each."""
        method = method_class(self.position_method)(self)
        if self.train_window <= method.smallest_window:
            return []
        smallest = method.smallest_scale
        return [
            f"--seq-length {self.train_window} (R) is longer than g * L = "
            f"{smallest * self.base_window:g} at g = {smallest:g}: such draws train on positions "
            "up to R - 1, beyond the pre-trained window, with t = 0. The paper is contradictory "
            "here (C1 of docs/paper.md); R = L is what its results fit."
        ]


def resolved(option: Any) -> Any:
    """An option of a flag; the value of one that depends on the registered methods."""
    return option() if callable(option) and not isinstance(option, type) else option


def differences(then: E2Config, now: E2Config) -> list[str]:
    """What a resumed run would change, one phrase a field; what only observes does not count."""
    return [
        f"{flag_name(item.name)} {_shown(getattr(then, item.name))} there, "
        f"{_shown(getattr(now, item.name))} here"
        for item in dataclasses.fields(E2Config)
        if item.name != "validation_windows" and getattr(then, item.name) != getattr(now, item.name)
    ]


def _shown(value: Any) -> str:
    """A value in a message: the content of a file is too long for one."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def flag_name(field_name: str) -> str:
    """The command-line flag of a field of :class:`E2Config`."""
    special = {
        "position_method": "--position-method",
        "train_window": "--seq-length",
        "planned_samples": "--train-samples",
    }
    return special.get(field_name, f"--e2-{field_name.replace('_', '-')}")
