# SPDX-License-Identifier: Apache-2.0
"""E2Config: every choice of the method in one dataclass; the command-line flags come from it."""

import argparse
import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from e2_common.errors import UserError
from e2_llm.positions import scale_for_window

METHODS = ("e2", "none", "linear", "ntk", "yarn", "llama3", "pose", "randpos")
RULES = ("linear", "ntk", "yarn", "llama3")
DISTRIBUTIONS = ("uniform-integer", "uniform", "log-uniform")
DRAW_UNITS = ("microbatch", "sample", "iteration")
# Fields that only one or two methods read; setting them elsewhere is refused, not ignored.
ONLY_FOR = {
    "frequencies": ("e2", "pose", "randpos"),
    "max_scale": ("e2",),
    "min_scale": ("e2",),
    "scale_distribution": ("e2",),
    "base_share": ("e2",),
    "keep_first": ("e2",),
    "no_offset": ("e2",),
    "fixed_scale": ("e2",),
    "factor": ("linear", "ntk", "yarn", "llama3", "pose", "randpos"),
    "draw_per": ("e2", "pose", "randpos"),
}


def _flag(default: Any, help: str, **options: Any) -> Any:
    """A field that is also a flag; ``options`` go to ``argparse.add_argument``."""
    return field(default=default, metadata={"help": help, **options})


@dataclass(frozen=True, kw_only=True)
class E2Config:
    """How the positions of a training window are made (arXiv 2401.06951, section 4.1).

    ``base_window`` is L, ``train_window`` is R, both in tokens. Field ``x`` is the flag ``--e2-x``
    (``position_method`` is ``--position-method``).

    Raises:
        UserError: on creation, when a value is out of range or two contradict each other.
    """

    position_method: str = _flag(
        "e2",
        "e2: scale and offset are drawn while training (E2-LLM). linear, ntk, yarn, llama3: "
        "frequencies of the fixed factor --e2-factor. pose: two chunks with a random skip, "
        "randpos: sorted random positions, both up to --e2-factor times L. none: Megatron's own "
        "RoPE.",
        choices=METHODS,
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
        "What a scale does to the frequencies (e2, pose, randpos): position interpolation as in "
        "the paper, NTK-aware base, YaRN with attention temperature, or Llama 3's.",
        choices=RULES,
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
        "How g is drawn between the smallest and G_max: integers (the paper), reals, or reals "
        "with a uniform logarithm.",
        choices=DISTRIBUTIONS,
    )
    base_share: float = _flag(
        0.0, "Share of the draws kept at the smallest scale.", type=float, metavar="P"
    )
    keep_first: int = _flag(
        4, "How many leading tokens keep offset 0 (Eq 7).", type=int, metavar="N"
    )
    draw_per: str = _flag(
        "microbatch",
        "What shares a draw: the samples of a micro-batch, only the sample itself, or the whole "
        "global batch of an iteration.",
        choices=DRAW_UNITS,
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
        "The fixed factor W / L of linear, ntk, yarn, llama3, pose and randpos.",
        type=float,
        metavar="FACTOR",
    )
    validation_windows: tuple[int, ...] = _flag(
        (),
        "At every validation also log one loss per window W (in tokens): true windows of W "
        "tokens at g = W / L and t = 0.",
        type=int,
        nargs="+",
        metavar="W",
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name in ("base_window", "train_window", "max_scale"):
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
        self._check_combinations()
        for window in self.validation_windows:
            if window < 2:
                raise UserError(f"--e2-validation-windows {window}: must be at least 2")
        if self.train_window > self.largest_window:
            raise UserError(
                f"--seq-length {self.train_window} is more than the largest scale can hold "
                f"({self.largest_window} = g * L); lower it, or raise "
                f"{self._flag_of_the_largest_scale()}"
            )

    def _check_combinations(self) -> None:
        """Refuse flags that the method would ignore, and those that contradict each other."""
        for item in dataclasses.fields(self):
            methods = ONLY_FOR.get(item.name)
            ignored = methods is not None and self.position_method not in methods
            if ignored and getattr(self, item.name) != item.default:
                raise UserError(
                    f"{flag_name(item.name)} is only for --position-method "
                    f"{', '.join(methods)}, not {self.position_method}"
                )
        if self.position_method in ONLY_FOR["factor"] and self.factor == 1:
            raise UserError(f"--position-method {self.position_method} needs --e2-factor above 1")
        if self.position_method == "e2" and self.smallest_integer_scale > self.max_scale:
            raise UserError(
                f"--e2-min-scale {self.min_scale:g} is above --e2-max-scale {self.max_scale}"
            )
        if self.fixed_scale:
            for name in ("max_scale", "min_scale", "scale_distribution", "base_share"):
                if getattr(self, name) != self.__dataclass_fields__[name].default:
                    raise UserError(f"{flag_name(name)} and --e2-fixed-scale exclude each other")

    def _flag_of_the_largest_scale(self) -> str:
        if self.position_method != "e2":
            return "--e2-factor"
        return "--e2-fixed-scale" if self.fixed_scale else "--e2-max-scale"

    @property
    def frequency_rule(self) -> str:
        """The key of ``FREQUENCY_RULES`` that turns a scale into frequencies, or ``none``."""
        if self.position_method in RULES or self.position_method == "none":
            return self.position_method
        return self.frequencies

    @property
    def constant_scale(self) -> float:
        """The scale of validation, and of training when nothing is drawn."""
        if self.position_method == "none":
            return 1.0
        if self.position_method != "e2":
            return self.factor
        fitting = scale_for_window(self.train_window, self.base_window)
        return self.fixed_scale or max(self.min_scale, fitting)

    @property
    def largest_window(self) -> float:
        """The longest window in tokens that a scale makes room for; no limit if none is."""
        if self.position_method == "none":
            return float("inf")
        largest = self.max_scale if self.position_method == "e2" else self.factor
        return int((self.fixed_scale or largest) * self.base_window)

    @property
    def smallest_scale(self) -> float:
        """The smallest scale that training can meet."""
        if self.position_method == "e2" and self.fixed_scale is None:
            if self.scale_distribution == "uniform-integer":
                return float(self.smallest_integer_scale)
            return self.min_scale
        return self.constant_scale

    @property
    def smallest_integer_scale(self) -> int:
        """``min_scale`` rounded up."""
        return math.ceil(self.min_scale)

    def warnings(self) -> list[str]:
        """What is allowed but worth knowing, one line each."""
        room = self.smallest_scale * self.base_window
        if self.train_window <= room:
            return []
        return [
            f"--seq-length {self.train_window} (R) is longer than g * L = {room:g} at g = "
            f"{self.smallest_scale:g}: such draws train on positions up to R - 1, beyond the "
            "pre-trained window, with t = 0. The paper is contradictory here (C1 of "
            "docs/paper.md); R = L is what its results fit."
        ]


def differences(then: E2Config, now: E2Config) -> list[str]:
    """What a resumed run would change, one phrase a field; what only observes does not count."""
    return [
        f"{flag_name(item.name)} {getattr(then, item.name)} there, {getattr(now, item.name)} here"
        for item in dataclasses.fields(E2Config)
        if item.name != "validation_windows" and getattr(then, item.name) != getattr(now, item.name)
    ]


def flag_name(field_name: str) -> str:
    """The command-line flag of a field of :class:`E2Config`."""
    special = {"position_method": "--position-method", "train_window": "--seq-length"}
    return special.get(field_name, f"--e2-{field_name.replace('_', '-')}")


def argument_name(field_name: str) -> str:
    """The attribute of Megatron's arguments that holds a field of :class:`E2Config`."""
    return flag_name(field_name).removeprefix("--").replace("-", "_")


def add_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add a flag for every field that has a help text, with the field's own default."""
    group = parser.add_argument_group(
        "E2-LLM", "positions of a training window (arXiv 2401.06951, section 4.1)"
    )
    for item in dataclasses.fields(E2Config):
        if not item.metadata:
            continue
        options = dict(item.metadata)
        if options.get("action") != "store_true":
            options["default"] = item.default
            if item.default not in (None, 0, (), 1.0):
                options["help"] += " Default: %(default)s."
        group.add_argument(flag_name(item.name), **options)
    group.add_argument(
        "--e2-override",
        action="store_true",
        help="Resume a run although its checkpoint was trained with other --e2-* values.",
    )
    return parser


def config_from_args(args: argparse.Namespace) -> E2Config:
    """Build the configuration from Megatron's arguments; fills R, and L when it is not given.

    Raises:
        UserError: a value is missing or out of range.
    """
    values: dict[str, Any] = {}
    for item in dataclasses.fields(E2Config):
        if item.metadata:
            # A checkpoint of an earlier version lacks the arguments that came later.
            values[item.name] = getattr(args, argument_name(item.name), item.default)
    if args.seq_length is None:
        raise UserError("--seq-length is missing: the training window R, in tokens")
    values["train_window"] = args.seq_length
    values["base_window"] = values["base_window"] or args.max_position_embeddings
    if values["base_window"] is None:
        raise UserError("--max-position-embeddings is missing: the pre-trained window L, in tokens")
    values["validation_windows"] = tuple(values["validation_windows"])
    return E2Config(**values)
