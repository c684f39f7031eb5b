# SPDX-License-Identifier: Apache-2.0
"""Bytes on a GPU by part, for every pipeline stage, at the fullest moment of an iteration."""

from dataclasses import dataclass

from e2_tools.planning import activations as kept
from e2_tools.planning.models import Model
from e2_tools.planning.parameters import buffer, chunks, count
from e2_tools.planning.run import BYTES, Run

ZERO_BUCKET = 500_000_000  # elements; DeepSpeed's default for reduce and for all-gather
PARTS = (
    "weights",
    "copies of weights",
    "gradients",
    "main parameters",
    "optimizer states",
    "activations",
    "logits and loss",
    "workspace",
    "overhead",
)


@dataclass(frozen=True)
class Stage:
    """The fullest rank of a pipeline stage.

    Attributes:
        number: from 0.
        parts: of :data:`PARTS` -> bytes at the fullest moment.
        moments: ``backward``, ``loss`` (on the last stage) and ``optimizer step`` -> bytes in all.
        in_flight: micro-batches whose activations are held at once, of all its layers; None of an
            engine without stages.
    """

    number: int
    parts: dict[str, int]
    moments: dict[str, int]
    in_flight: float | None

    @property
    def total(self) -> int:
        """Bytes at the fullest moment."""
        return sum(self.parts.values())

    @property
    def moment(self) -> str:
        """When it is fullest."""
        return max(self.moments, key=lambda name: self.moments[name])


def stages(model: Model, run: Run) -> list[Stage]:
    """Every stage's memory.

    Args:
        model: with padded vocabulary.
        run: checked.
    """
    return [_stage(model, run, number) for number in range(run.layout.pipeline)]


def fullest(all_stages: list[Stage]) -> Stage:
    """The one that decides whether a run fits."""
    return max(all_stages, key=lambda stage: stage.total)


def static_bytes(model: Model, run: Run, stage: int, rank: int | None = None) -> dict[str, int]:
    """What lies on a rank from the first iteration to the last.

    Args:
        model: with padded vocabulary.
        run: the layout and the optimizer count.
        stage: of the pipeline.
        rank: among those that share the optimizer's state; default: the fullest.
    """
    e = BYTES[run.precision]
    distributed = run.sharding == "distributed-optimizer"
    parts = chunks(model, run, stage)
    if run.sharding == "zero-2":
        own = buffer_elements = sum(map(count, parts))
        owned = [-(-own // run.shards)]
        gradients = e * owned[0]
    else:
        buffers = [buffer(chunk, run.shards, distributed) for chunk in parts]
        buffer_elements = sum(laid.elements for laid in buffers)
        owned = [sum(shares) for shares in zip(*(laid.owned for laid in buffers), strict=True)]
        gradients = (BYTES[run.gradients] if e == 2 else 4) * buffer_elements
    mine = max(owned) if rank is None else owned[rank]
    # fp32 weights are their own main parameters; remainders complete a bf16 weight to fp32.
    main = 0 if e == 4 else (2 if run.precision_aware else 4)
    return {
        "weights": e * (buffer_elements if distributed else sum(map(count, parts))),
        "gradients": gradients,
        "main parameters": main * mine,
        "optimizer states": 2 * BYTES[run.states] * mine,
    }


def in_flight_chunks(run: Run, stage: int) -> int:
    """Forward passes of model chunks whose backward pass has not run, at most (1F1B)."""
    layout = run.layout
    ahead = layout.pipeline - stage - 1
    warm_up = ahead if layout.virtual == 1 else 2 * ahead + (layout.virtual - 1) * layout.pipeline
    return min(warm_up + 1, layout.micro_batches * layout.virtual)


def activation_bytes(model: Model, run: Run, stage: int) -> float:
    """What all micro-batches in flight keep on a stage, without the final norm and what follows."""
    layout = run.layout
    layers = model.sizes.layers // (layout.pipeline * layout.virtual)
    in_flight = in_flight_chunks(run, stage)
    if layout.recompute == "full":
        a_chunk = layers * kept.checkpoint_bytes(model, run) + kept.rotary_bytes(model, run)
    else:
        a_chunk = layers * sum(kept.layer_bytes(model, run).values())
    a_token = in_flight * a_chunk
    if stage == 0:
        a_token += in_flight / layout.virtual * kept.embedding_bytes(run)
    return kept.tokens_of(run) * a_token


def _stage(model: Model, run: Run, number: int) -> Stage:
    tokens = kept.tokens_of(run)
    static = static_bytes(model, run, number)
    held = activation_bytes(model, run, number)
    last = number == run.layout.pipeline - 1
    e = BYTES[run.precision]
    largest = max(p.elements for chunk in chunks(model, run, number) for p in chunk)
    buckets = 2 * ZERO_BUCKET * e if run.sharding == "zero-2" else 0

    # Backward through a layer: its gradients, the largest weight's gradient before it is added up,
    # and what recomputing brings back.
    work = tokens * kept.backward_workspace(model, run) + e * largest
    if run.layout.recompute == "full":
        work += tokens * kept.recomputed_bytes(model, run)
    moments = {"backward": {"activations": held, "workspace": work + buckets}}
    if last:
        logits = kept.head_bytes(model, run) + kept.logits_workspace(model, run)
        if run.sharding == "zero-2":
            logits = kept.HF_LOGITS * model.sizes.padded_vocab
        moments["loss"] = {
            "activations": held,
            "logits and loss": tokens * logits,
            "workspace": buckets,
        }
    temporaries = 0 if run.fused_adam else static["optimizer states"] // 2
    if e == 2 and run.gradients == "bf16" and not run.precision_aware:
        temporaries += static["main parameters"]  # the shard's gradients in fp32
    moments["optimizer step"] = {"workspace": temporaries + buckets}
    always = sum(static.values()) + run.overhead
    totals = {name: always + round(sum(moving.values())) for name, moving in moments.items()}
    parts = {**static, **moments[max(totals, key=lambda name: totals[name])]}
    parts["overhead"] = run.overhead
    return Stage(
        number,
        {part: round(parts.get(part, 0)) for part in PARTS},
        totals,
        in_flight_chunks(run, number) / run.layout.virtual,
    )
