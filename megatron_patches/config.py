# SPDX-License-Identifier: Apache-2.0
"""E2Config: every choice of the method in one dataclass; the command-line flags come from it."""

import argparse
import dataclasses
from dataclasses import dataclass, field
from typing import Any

from megatron_patches.errors import UserError
from megatron_patches.positions import scale_for_window

METHODS = ("e2", "none", "linear")
DRAW_UNITS = ("microbatch", "sample", "iteration")


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
        "e2: scale and offset are drawn while training (E2-LLM). linear: every position divided "
        "by --e2-linear-factor (position interpolation). none: Megatron's own RoPE.",
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
    max_scale: int = _flag(
        20, "G_max: g is drawn uniformly from {1..G_max} (Eq 6).", type=int, metavar="G_MAX"
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
    linear_factor: float = _flag(
        1.0, "The factor of --position-method linear.", type=float, metavar="FACTOR"
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
        if self.fixed_scale is not None and self.fixed_scale < 1:
            raise UserError(f"--e2-fixed-scale {self.fixed_scale}: must be at least 1")
        if self.linear_factor < 1:
            raise UserError(f"--e2-linear-factor {self.linear_factor}: must be at least 1")
        if self.position_method == "linear" and self.linear_factor == 1:
            raise UserError("--position-method linear needs --e2-linear-factor above 1")
        if self.position_method != "linear" and self.linear_factor != 1:
            raise UserError("--e2-linear-factor is only for --position-method linear")
        if self.position_method != "e2":
            for name in ("no_offset", "fixed_scale"):
                if getattr(self, name):
                    raise UserError(f"{flag_name(name)} is only for --position-method e2")
        for window in self.validation_windows:
            if window < 2:
                raise UserError(f"--e2-validation-windows {window}: must be at least 2")
        if self.train_window > self.largest_window:
            raise UserError(
                f"--seq-length {self.train_window} is more than the largest scale can hold "
                f"({self.largest_window} = g * L); lower it, or raise "
                f"{'--e2-fixed-scale' if self.fixed_scale else '--e2-max-scale'}"
            )

    @property
    def constant_scale(self) -> float:
        """The scale of validation, and of training when nothing is drawn."""
        if self.position_method == "linear":
            return self.linear_factor
        if self.position_method == "none":
            return 1.0
        return self.fixed_scale or scale_for_window(self.train_window, self.base_window)

    @property
    def largest_window(self) -> float:
        """The longest window in tokens that a drawn scale makes room for; no limit if none is."""
        if self.position_method != "e2":
            return float("inf")
        return int((self.fixed_scale or self.max_scale) * self.base_window)

    @property
    def smallest_scale(self) -> float:
        """The smallest scale that training can meet."""
        if self.position_method == "e2" and self.fixed_scale is None:
            return 1.0
        return self.constant_scale

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
            values[item.name] = getattr(args, flag_name(item.name)[2:].replace("-", "_"))
    if args.seq_length is None:
        raise UserError("--seq-length is missing: the training window R, in tokens")
    values["train_window"] = args.seq_length
    values["base_window"] = values["base_window"] or args.max_position_embeddings
    if values["base_window"] is None:
        raise UserError("--max-position-embeddings is missing: the pre-trained window L, in tokens")
    values["validation_windows"] = tuple(values["validation_windows"])
    return E2Config(**values)
