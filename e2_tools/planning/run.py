# SPDX-License-Identifier: Apache-2.0
"""What is planned: a layout, and the choices that bytes depend on beside it."""

from dataclasses import dataclass, field

from e2_common.errors import UserError
from e2_common.training_time.layout import Layout
from e2_tools.planning.models import Model

BYTES = {"fp32": 4, "bf16": 2}
SHARDING = ("none", "distributed-optimizer", "zero-2")


@dataclass(frozen=True)
class Kernels:
    """Which operations keep only what their gradient needs; unfused, torch keeps more.

    Attributes:
        norm: one kernel for RMSNorm; else its steps in fp32.
        rope: one kernel; else cosines and sines of every layer, for queries and for keys.
        swiglu: one kernel; else both halves once more.
    """

    norm: bool = True
    rope: bool = True
    swiglu: bool = True


# ``gpu``: this project without Transformer Engine on a GPU (torch's own RMSNorm kernel, SwiGLU by
# torch.compile); ``cpu``: where nothing is fused.
KERNELS = {
    "transformer-engine": Kernels(),
    "gpu": Kernels(rope=False),
    "cpu": Kernels(norm=False, rope=False, swiglu=False),
}


@dataclass(frozen=True)
class Run:
    """A training run as far as memory is concerned.

    Attributes:
        layout: how it is spread.
        precision: of weights and activations, ``bf16`` or ``fp32``.
        sharding: ``none``; ``distributed-optimizer`` (Megatron's: main parameters and optimizer
            states over data parallel); ``zero-2`` (DeepSpeed's: gradients too).
        kernels: what is fused.
        flash: attention without a score matrix (flash attention, SDPA); else it is kept.
        precision_aware: ``--use-precision-aware-optimizer``: main parameters as 16-bit remainders.
        gradients: precision of the gradient buffer.
        states: precision of Adam's two moments.
        fused_adam: the optimizer's step makes no temporaries.
        overhead: bytes of context, libraries' workspaces and fragmentation; an assumption.
    """

    layout: Layout = field(default_factory=Layout)
    precision: str = "bf16"
    sharding: str = "distributed-optimizer"
    kernels: Kernels = field(default_factory=lambda: KERNELS["gpu"])
    flash: bool = True
    precision_aware: bool = False
    gradients: str = "fp32"
    states: str = "fp32"
    fused_adam: bool = False
    overhead: int = 3 * 2**30

    @property
    def shards(self) -> int:
        """Among how many ranks the optimizer's state is split."""
        return 1 if self.sharding == "none" else self.layout.data * self.layout.context


def check(run: Run, model: Model) -> None:
    """Refuse what Megatron refuses.

    Raises:
        UserError: naming the flag.
    """
    layout, sizes = run.layout, model.sizes
    for flag, value in {
        "--tp": layout.tensor,
        "--pp": layout.pipeline,
        "--vpp": layout.virtual,
        "--cp": layout.context,
        "--micro-batch-size": layout.micro_batch,
        "--seq-length": layout.window,
    }.items():
        if value < 1:
            raise UserError(f"{flag} {value}: must be at least 1")
    for name, value in {
        "attention heads": sizes.heads,
        "key/value heads": sizes.groups,
        "feed-forward channels": sizes.ffn,
    }.items():
        if value % layout.tensor:
            raise UserError(f"--tp {layout.tensor}: {value} {name} cannot be split so")
    if sizes.layers % (layout.pipeline * layout.virtual):
        raise UserError(
            f"--pp {layout.pipeline} --vpp {layout.virtual}: {sizes.layers} layers are no multiple "
            "of their product"
        )
    if layout.virtual > 1 and layout.pipeline == 1:
        raise UserError(f"--vpp {layout.virtual}: needs --pp above 1")
    if layout.virtual > 1 and layout.micro_batches % layout.pipeline:
        raise UserError(
            f"--vpp {layout.virtual}: {layout.micro_batches} micro-batches a rank are no multiple "
            f"of --pp {layout.pipeline}; raise --global-batch-size"
        )
    pieces = layout.tensor if layout.sequence_parallel else 1
    pieces *= (
        2 * layout.context if layout.context > 1 else 1
    )  # causal halves are dealt out in pairs
    if layout.window % pieces:
        raise UserError(
            f"--seq-length {layout.window}: is no multiple of {pieces}, as --tp and --cp split it"
        )
    if layout.sequence_parallel and layout.tensor == 1:
        raise UserError("--sequence-parallel: needs --tp above 1")
    if run.sharding == "zero-2" and layout.world != layout.data:
        raise UserError(
            "--sharding zero-2: is planned for data parallel only; drop --tp, --pp, --cp"
        )
    if run.precision_aware and run.sharding != "distributed-optimizer":
        raise UserError("--precision-aware-optimizer: needs --sharding distributed-optimizer")
    if run.states != "fp32" and not run.precision_aware:
        raise UserError(f"--adam-states {run.states}: needs --precision-aware-optimizer")
