# SPDX-License-Identifier: Apache-2.0
"""How many windows the iterations of a run have, and how many iterations there are."""

import argparse
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """Iterations of one size.

    Attributes:
        windows: of an iteration, over all ranks.
        iterations: how many there are; None where the run has no planned end.
    """

    windows: int
    iterations: int | None


def phases(args: argparse.Namespace) -> list[Phase]:
    """The run's iterations by their sizes, as Megatron will run them.

    Args:
        args: Megatron's, validated.
    """
    schedule = args.step_batch_size_schedule
    if schedule is None:
        step = args.micro_batch_size * args.data_parallel_size
        windows = args.global_batch_size // step * step  # --decrease-batch-size-if-needed
        iterations = args.train_iters
        if not iterations and args.train_samples:
            iterations = args.train_samples // args.global_batch_size
        return [Phase(windows, iterations)]
    from megatron.core.num_microbatches_calculator import StepBatchsizeNumMicroBatchesCalculator

    steps = StepBatchsizeNumMicroBatchesCalculator._parse_schedule(schedule, args.seq_length)
    most = args.train_iters or math.inf
    # Where iterations are given, they end the run, else samples do.
    last = math.inf if args.train_iters else args.train_samples or math.inf
    ends = [*(start for start, _ in steps[1:]), math.inf]
    found: list[Phase] = []
    samples = done = 0
    for (_, windows), end in zip(steps, ends, strict=True):
        until = min(end, last)
        needed = math.inf if until == math.inf else math.ceil(max(0, until - samples) / windows)
        iterations = min(needed, most - done)
        if iterations == math.inf:
            return [*found, Phase(windows, None)]
        if iterations:
            found.append(Phase(windows, int(iterations)))
        samples, done = samples + iterations * windows, done + iterations
    return found
