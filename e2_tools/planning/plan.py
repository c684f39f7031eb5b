# SPDX-License-Identifier: Apache-2.0
"""One run planned: memory, whether it fits, speed, hours, money."""

from dataclasses import dataclass
from typing import Any

from e2_common.training_time.gpus import Gpu
from e2_common.training_time.step_time import (
    COMPUTE_MFU,
    StepTime,
    reached_mfu,
    step_time,
    tokens_per_second,
)
from e2_tools.planning.memory import Stage, fullest, stages
from e2_tools.planning.models import Model
from e2_tools.planning.run import Run


@dataclass(frozen=True)
class Plan:
    """What a run needs.

    Attributes:
        model: with padded vocabulary.
        run: its layout and choices.
        gpu: all are alike.
        stages: memory of each pipeline stage.
        mfu: share of the peak, causal; given or estimated.
        mfu_given: which of the two.
        iterations: of the run.
        price: of a GPU for an hour, None if not asked for.
    """

    model: Model
    run: Run
    gpu: Gpu
    stages: list[Stage]
    mfu: float
    mfu_given: bool
    iterations: int
    price: float | None

    @property
    def title(self) -> str:
        """Model, GPUs and layout in a line."""
        layout = self.run.layout
        extras = ["sequence parallel"] if layout.sequence_parallel else []
        if self.run.sharding != "none":
            extras.append(self.run.sharding.replace("-", " "))
        extras.append(self.recompute)
        gpus = f"{layout.world} x {self.gpu.name}"
        return f"{self.model.name} on {gpus}: {layout}, {', '.join(extras)}"

    @property
    def recompute(self) -> str:
        """How much is recomputed, in words."""
        kind = self.run.layout.recompute
        return "no recompute" if kind == "none" else f"{kind} recompute"

    @property
    def window(self) -> int:
        """Tokens of a sample."""
        return self.run.layout.window

    @property
    def fullest(self) -> Stage:
        """The stage that needs most."""
        return fullest(self.stages)

    @property
    def fits(self) -> bool:
        """Whether every stage's memory is there."""
        return self.fullest.total <= self.gpu.memory

    @property
    def step(self) -> StepTime:
        """Where an iteration's time goes, by the estimate."""
        return step_time(self.model.sizes, self.run.layout, self.gpu)

    @property
    def tokens_per_second(self) -> float:
        """Of all GPUs."""
        return tokens_per_second(self.model.sizes, self.run.layout, self.gpu, self.mfu)

    @property
    def hours(self) -> float:
        """Of the whole run, without validation and checkpoints."""
        return self.iterations * self.run.layout.tokens / self.tokens_per_second / 3600

    @property
    def cost(self) -> float | None:
        """Of the whole run, in the currency of the price."""
        return None if self.price is None else self.hours * self.run.layout.world * self.price

    def record(self) -> dict[str, Any]:
        """As JSON; bytes, tokens and seconds."""
        layout, sizes = self.run.layout, self.model.sizes
        return {
            "model": self.model.name,
            "gpu": self.gpu.name,
            "gpus": layout.world,
            "layout": {
                "tp": layout.tensor,
                "pp": layout.pipeline,
                "vpp": layout.virtual,
                "cp": layout.context,
                "dp": layout.data,
                "sequence_parallel": layout.sequence_parallel,
                "recompute": layout.recompute,
                "sharding": self.run.sharding,
                "micro_batch_size": layout.micro_batch,
                "micro_batches": layout.micro_batches,
            },
            "seq_length": layout.window,
            "stages": [
                {
                    "stage": stage.number,
                    "bytes": stage.parts,
                    "total": stage.total,
                    "fullest_in": stage.moment,
                    "moments": stage.moments,
                    "micro_batches_in_flight": stage.in_flight,
                }
                for stage in self.stages
            ],
            "fullest_stage": self.fullest.number,
            "gpu_memory": self.gpu.memory,
            "fits": self.fits,
            "flops_per_token": {
                "causal": sizes.flops(layout.window),
                "full": sizes.flops(layout.window, causal=False),
            },
            "mfu": {
                "causal": self.mfu,
                "full": self.mfu_full,
                "given": self.mfu_given,
            },
            "estimated_step_seconds": {**vars(self.step), "total": self.step.total},
            "tokens_per_second": self.tokens_per_second,
            "iterations": self.iterations,
            "tokens": self.iterations * layout.tokens,
            "hours": self.hours,
            "price_per_gpu_hour": self.price,
            "cost": self.cost,
        }

    @property
    def mfu_full(self) -> float:
        """The same speed's share of the peak when attention counts without the causal half."""
        sizes, window = self.model.sizes, self.run.layout.window
        return self.mfu * sizes.flops(window, causal=False) / sizes.flops(window)


def make_plan(
    model: Model,
    run: Run,
    gpu: Gpu,
    iterations: int,
    mfu: float | None = None,
    price: float | None = None,
) -> Plan:
    """Plan a run.

    Args:
        model: with padded vocabulary.
        run: checked.
        gpu: all are alike.
        iterations: of the run.
        mfu: share of the peak that model FLOPs reach, causal; default: :data:`COMPUTE_MFU` less
            what the layout loses by the estimate of :func:`step_time`.
        price: of a GPU for an hour.
    """
    reached = reached_mfu(model.sizes, run.layout, gpu) if mfu is None else mfu
    given = mfu is not None
    return Plan(model, run, gpu, stages(model, run), reached, given, iterations, price)


ASSUMED_MFU = f"{COMPUTE_MFU:.0%} while computing, less the layout's losses"
