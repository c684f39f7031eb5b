# SPDX-License-Identifier: Apache-2.0
"""Layouts that fit, the fastest first."""

import math
from collections.abc import Iterator
from dataclasses import replace

from e2_common.errors import UserError
from e2_common.training_time.gpus import Gpu
from e2_common.training_time.layout import RECOMPUTE
from e2_tools.planning.models import Model
from e2_tools.planning.plan import Plan, make_plan
from e2_tools.planning.run import Run, check

MICRO_BATCHES = (1, 2, 4, 8)
CLOSE = 0.01  # relative difference of speed below which the freer memory decides


def suggestions(
    model: Model, run: Run, gpu: Gpu, world: int, global_batch: int, iterations: int,
    price: float | None = None, mfu: float | None = None,
) -> list[Plan]:  # fmt: skip
    """The best layout of every (TP, PP) that fits, by estimated tokens/s.

    Of each (TP, PP, virtual stages, micro-batch) only the one with the least recompute that fits:
    recomputing more only costs. Speed counts recomputed FLOPs, pipeline bubble and communication
    (``step_time.step_time``). Within 1 %, which the estimate cannot tell apart, fewer virtual
    stages win (fewer and larger messages), then more free memory.

    Args:
        model: vocabulary not padded; it is for each layout.
        run: all but the layout.
        gpu: all are alike.
        world: GPUs.
        global_batch: samples of an iteration.
        iterations: of the run.
        price: of a GPU for an hour.
        mfu: given share of the peak; it does not change the order.
    """
    found = []
    for candidate in _candidates(model, run, world, global_batch):
        padded = model.padded(candidate.layout.tensor)
        for recompute in RECOMPUTE:
            if recompute == "selective" and candidate.flash:
                continue  # flash attention keeps nothing that this would free
            tried = replace(candidate, layout=replace(candidate.layout, recompute=recompute))
            plan = make_plan(padded, tried, gpu, iterations, mfu, price)
            if plan.fits:
                found.append(plan)
                break
    best: dict[tuple[int, int], Plan] = {}
    for plan in sorted(found, key=_order):
        best.setdefault((plan.run.layout.tensor, plan.run.layout.pipeline), plan)
    return list(best.values())


def _order(plan: Plan) -> tuple[int, int, int]:
    seconds = plan.step.total / plan.run.layout.tokens
    step = round(math.log(seconds) / math.log1p(CLOSE))
    return step, plan.run.layout.virtual, plan.fullest.total


def _candidates(model: Model, run: Run, world: int, global_batch: int) -> Iterator[Run]:
    layout = run.layout
    for tensor in _powers(min(layout.gpus_per_node, world)):
        for pipeline in range(1, world // (tensor * layout.context) + 1):
            ranks = tensor * pipeline * layout.context
            if world % ranks or model.sizes.layers % pipeline:
                continue
            data = world // ranks
            for micro_batch in MICRO_BATCHES:
                if global_batch % (micro_batch * data):
                    continue
                for virtual in range(1, model.sizes.layers // pipeline + 1):
                    candidate = replace(
                        run,
                        layout=replace(
                            layout,
                            tensor=tensor,
                            pipeline=pipeline,
                            virtual=virtual,
                            data=data,
                            sequence_parallel=tensor > 1,
                            micro_batch=micro_batch,
                            micro_batches=global_batch // (micro_batch * data),
                        ),
                    )
                    try:
                        check(candidate, model)
                    except UserError:
                        continue
                    yield candidate


def _powers(largest: int) -> Iterator[int]:
    power = 1
    while power <= largest:
        yield power
        power *= 2
