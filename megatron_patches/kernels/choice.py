# SPDX-License-Identifier: Apache-2.0
"""The ``--kernel-*`` flags, made from the registry, and the choice they lead to."""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from e2_common.errors import UserError
from megatron_patches.kernels.blocked import HALF, INSTALL
from megatron_patches.kernels.facts import TE, Facts, is_interpreted, missing_packages
from megatron_patches.kernels.registry import PARTS, Part

AUTO = "auto"
# Megatron's arguments that go with its local layers.
LOCAL_LAYERS = {
    "transformer_impl": "local",
    "no_persist_layer_norm": True,
    "masked_softmax_fusion": False,
    # Our attention is causal without a mask; Megatron's would be s x s for each sample.
    "create_attention_mask_in_dataloader": False,
}
# Megatron's own switches for what the choice decides: off until it is made.
UNDECIDED = {"apply_rope_fusion": False, "gradient_accumulation_fusion": False}


@dataclass(frozen=True)
class Choice:
    """The kernel of every part.

    Attributes:
        names: part -> kernel; for a part that the run lacks, what it has instead.
        absent: the parts that the run lacks.
        better: part -> the better kernels, each with the reason why it cannot run.
    """

    names: Mapping[str, str]
    absent: frozenset[str]
    better: Mapping[str, Mapping[str, str]]

    def __getitem__(self, part: str) -> str:
        return self.names[part]

    def report(self) -> str:
        """One line: every part and its kernel."""
        return ", ".join(f"{part.title} {self.names[part.name]}" for part in PARTS)

    def missing(self, facts: Facts) -> Iterator[str]:
        """A line for each missing package with kernels that would be better than the chosen."""
        for package, how in INSTALL.items():
            reason = facts.missing.get(package)
            parts = [
                f"{part.title}: {part.kernel(name).gives}"
                for part in PARTS
                for name in self.better.get(part.name, ())
                if part.kernel(name).package == package
            ]
            if reason and parts:
                mend = f"; {how}" if reason.endswith("is not installed") else ""
                yield f"{reason} ({'; '.join(parts)}){mend}"


def add_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add a flag for every part of the registry."""
    group = parser.add_argument_group(
        "kernels", "what computes each part of a step; auto: the best that can run here"
    )
    for part in PARTS:
        kernels = "; ".join(f"{kernel.name}: {kernel.gives}" for kernel in part.kernels)
        on_cpu = " or ".join(part.on_cpu)
        if part.on_cpu_half:
            on_cpu += f", with --bf16 {' or '.join(part.on_cpu_half)}"
        group.add_argument(
            part.flag,
            choices=(AUTO, *(kernel.name for kernel in part.kernels)),
            default=AUTO,
            help=f"Kernel of {part.title}, best first. {kernels}. On the CPU auto takes {on_cpu}. "
            "Default: %(default)s.",
        )
    return parser


def asked(args: argparse.Namespace, part: Part | str) -> str:
    """The kernel that the command line names for a part, or ``auto``."""
    name = part if isinstance(part, str) else part.name
    return getattr(args, f"kernel_{name}", AUTO)


def megatron_defaults(early: argparse.Namespace, on_cpu: bool) -> dict[str, object]:
    """Choose between Transformer Engine's layers and Megatron's local ones.

    Transformer Engine's are taken where it can be used, unless another kernel of attention or norm
    is named, or ``--transformer-impl local``.

    Args:
        early: the command line, parsed with Megatron's own defaults.
        on_cpu: whether the CPU runtime is installed.

    Returns:
        Defaults for Megatron's arguments.

    Raises:
        UserError: flags contradict each other.
    """
    named = {part: asked(early, part) for part in ("attention", "norm")}
    asked_te = [part for part, name in named.items() if name == "te"]
    others = [part for part, name in named.items() if name not in (AUTO, "te")]
    if asked_te and others:
        raise UserError(
            f"--kernel-{asked_te[0]} te and --kernel-{others[0]} {named[others[0]]}: Transformer "
            "Engine's layers bring their own attention and norm; name te for both, or for none"
        )
    if asked_te and early.transformer_impl == "local":
        raise UserError(
            f"--kernel-{asked_te[0]} te: is part of Transformer Engine's layers, "
            "not of --transformer-impl local; drop one"
        )
    reason = missing_packages(on_cpu, is_interpreted()).get(TE)
    if reason is None and not others and early.transformer_impl != "local":
        return UNDECIDED
    backend = getattr(early.attention_backend, "name", early.attention_backend)
    if backend != "auto":
        raise UserError(
            f"--attention-backend {backend}: chooses within Transformer Engine's layers; "
            "with the local ones use --kernel-attention"
        )
    return UNDECIDED | LOCAL_LAYERS


def choose(args: argparse.Namespace, facts: Facts) -> Choice:
    """Pick a kernel for every part.

    Args:
        args: with the attributes of :func:`add_arguments`.
        facts: what decides.

    Raises:
        UserError: a kernel was named that cannot run, or whose part the run lacks.
    """
    names, absent, better = {}, set(), {}
    for part in PARTS:
        wanted = asked(args, part)
        instead = part.absent(facts)
        if instead:
            if wanted != AUTO:
                raise UserError(f"{part.flag} {wanted}: this run has {instead}; drop the flag")
            absent.add(part.name)
            names[part.name] = instead
        elif wanted != AUTO:
            reason = part.kernel(wanted).blocked(facts)
            if reason:
                raise UserError(f"{part.flag} {wanted}: {reason}. {_possible(part, facts)}")
            names[part.name] = wanted
        else:
            names[part.name], better[part.name] = _best(part, facts)
    return Choice(names, frozenset(absent), better)


def _best(part: Part, facts: Facts) -> tuple[str, dict[str, str]]:
    """The first kernel that can run, and why those before it cannot."""
    blocked = {}
    on_cpu = part.on_cpu + (part.on_cpu_half if facts.dtype in HALF else ())
    for kernel in part.kernels:
        if facts.on_cpu and kernel.name not in on_cpu:
            continue
        reason = kernel.blocked(facts)
        if reason is None:
            return kernel.name, blocked
        blocked[kernel.name] = reason
    reasons = "; ".join(f"{name} {reason}" for name, reason in blocked.items())
    raise UserError(f"{part.flag}: nothing can compute this: {reasons}")


def _possible(part: Part, facts: Facts) -> str:
    """The names that can be used instead."""
    names = [kernel.name for kernel in part.kernels if kernel.blocked(facts) is None]
    return f"Here: {', '.join([AUTO, *names])}"


def set_megatron_arguments(args: argparse.Namespace, choice: Choice) -> None:
    """Write the choice into the arguments from which Megatron builds the model."""
    args.apply_rope_fusion = choice["rope"] != "plain"
    args.gradient_accumulation_fusion = choice["weight_gradients"] != "plain"
    # Liger's kernels take the place of the functions behind Megatron's fusions.
    args.cross_entropy_loss_fusion = choice["cross_entropy"] != "plain"
    args.cross_entropy_fusion_impl = "native"
    if "swiglu" not in choice.absent:
        args.bias_swiglu_fusion = choice["swiglu"] in ("liger", "compile")
