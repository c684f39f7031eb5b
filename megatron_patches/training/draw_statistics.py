# SPDX-License-Identifier: Apache-2.0
"""Curves: histograms of the drawn scales and offsets, and the training loss by scale.

Written every ``--tensorboard-log-interval`` iterations, as Megatron's own curves are, over the
iterations since: ``e2 draws/scale``, ``e2 draws/offset``, and for each range of scales
``lm loss by scale/g 4 to 8``. Megatron is imported inside functions: the arithmetic needs none.
"""

import argparse
from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from e2_llm.batch_draws import iteration_draws
from e2_llm.config import E2Config
from e2_llm.methods import method_for
from e2_llm.positions import max_offset
from e2_llm.sampler import Draw
from e2_llm.scales import scale_edges
from megatron_patches.training.curves import write_histogram, write_scalars

if TYPE_CHECKING:
    from megatron.training.models.gpt import GPTModelConfig

    from megatron_patches.training.step import LossFunction

MAX_BINS = 32  # of a histogram; TensorBoard draws 30


def integer_bins(first: int, last: int) -> np.ndarray:
    """Edges between the integers first .. last, equally many in each of at most ``MAX_BINS`` bins.

    Args:
        first: the smallest value.
        last: the largest value.

    Returns:
        Edges [bins + 1], each half an integer; the last bin may reach beyond ``last``.
    """
    count = last - first + 1
    width = -(-count // MAX_BINS)
    return first - 0.5 + width * np.arange(-(-count // width) + 1)


class DrawStatistics:
    """Draws, and summed losses of the scale buckets, since the last :meth:`reset`.

    Args:
        config: of the positions, of a method that draws scales.
    """

    def __init__(self, config: E2Config) -> None:
        largest = method_for(config).largest_scale
        room = max_offset(largest, config.base_window, config.train_window)
        self.edges = scale_edges(largest)
        self.names = [
            f"lm loss by scale/g {low:g} to {high:g}" for low, high in pairwise(self.edges)
        ]
        self.bins = {
            "e2 draws/scale": integer_bins(1, int(np.ceil(largest))),
            "e2 draws/offset": integer_bins(0, 0 if config.no_offset else room),
        }
        self.sums: Tensor | None = None  # fp64 [buckets, 2]: summed loss, number of tokens
        self.draws: list[np.ndarray] = []  # of each iteration, [draws, 2]: scale, offset

    def reset(self) -> None:
        """Forget everything, after a log."""
        self.sums = None
        self.draws = []

    def bucket(self, scale: float) -> int:
        """The number of the bucket that a scale falls into, from 0."""
        return min(bisect_right(self.edges, scale), len(self.names)) - 1

    def add_draws(self, draws: Iterable[Draw]) -> None:
        """Count the draws of an iteration."""
        self.draws.append(np.array([draw[:2] for draw in draws], dtype=np.float64))

    @torch.no_grad()
    def add_losses(self, draws: list[Draw], losses: Tensor, loss_mask: Tensor) -> None:
        """Add a micro-batch to its buckets, without waiting for the device.

        Args:
            draws: one for all samples, or one for each.
            losses: token losses [b, s].
            loss_mask: [b, s], 1 where a token counts.
        """
        mask = loss_mask.float()
        samples = torch.stack([(losses.float() * mask).sum(1), mask.sum(1)], dim=1)  # [b, 2]
        rows = samples if len(draws) > 1 else samples.sum(0, keepdim=True)
        if self.sums is None:
            # fp32 counts tokens only up to 2^24, and a long interval has more.
            self.sums = samples.new_zeros(len(self.names), 2, dtype=torch.float64)
        for draw, row in zip(draws, rows, strict=True):
            self.sums[self.bucket(draw.scale)] += row

    def write(self, writer: Any, iteration: int) -> None:
        """Write what was added; a bucket without a draw gets no point.

        Args:
            writer: TensorBoard's ``SummaryWriter``.
            iteration: the step of the points.
        """
        sums = [] if self.sums is None else self.sums.tolist()
        buckets = zip(self.names, sums, strict=False)
        losses = {name: loss / tokens for name, (loss, tokens) in buckets if tokens > 0}
        write_scalars(writer, losses, iteration)
        if self.draws:
            columns = np.concatenate(self.draws).T  # [2, draws]
            for (name, bins), values in zip(self.bins.items(), columns, strict=True):
                write_histogram(writer, name, values, bins, iteration)


class TrainingStatistics:
    """Feeds :class:`DrawStatistics` from the forward steps of training, and logs them.

    Args:
        config: of the positions, of a method that draws scales.
        finalize: what Megatron would call at the end of a batch.
    """

    def __init__(self, config: E2Config, finalize: Callable[..., None]) -> None:
        self.config = config
        self.finalize = finalize
        self.statistics = DrawStatistics(config)
        self.micro_batch = 0

    def watch(self, loss_function: "LossFunction", loss_mask: Tensor) -> "LossFunction":
        """A micro-batch's loss function that also adds to the statistics.

        Megatron calls it on the last pipeline stage, in every schedule in the order of the
        micro-batches. Elsewhere a layer tells the number of its micro-batch, but this stage may
        have no layers, so the calls are counted.

        Args:
            loss_function: of training.
            loss_mask: [b, s], 1 where a token counts.
        """
        from megatron.training import get_args

        from megatron_patches.training.step import draws_of

        def observed(output: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
            if not _is_repeated():
                draws = draws_of(get_args(), self.micro_batch, self.config)
                self.statistics.add_losses(draws, output, loss_mask)
            self.micro_batch += 1
            return loss_function(output)

        return observed

    def end_of_batch(self, *args: Any, **kwargs: Any) -> None:
        """Finalize the gradients as Megatron would, and log if this is an iteration to log."""
        self.finalize(*args, **kwargs)
        self.micro_batch = 0
        if not _is_repeated():
            self._end_of_iteration()

    def _end_of_iteration(self) -> None:
        from megatron.core import mpu
        from megatron.core.num_microbatches_calculator import get_current_running_global_batch_size
        from megatron.training import get_args, get_tensorboard_writer

        args, writer, statistics = get_args(), get_tensorboard_writer(), self.statistics
        if writer:  # on the last rank; the draws are the same everywhere
            batch_size = get_current_running_global_batch_size()
            where = (args.seed, args.consumed_train_samples, batch_size, args.micro_batch_size)
            statistics.add_draws(iteration_draws(self.config, *where))
        iteration = args.curr_iteration + 1  # Megatron counts from 0 while it runs them
        if not is_logged(args, iteration):
            return
        if statistics.sums is not None:  # on all ranks of the last stage
            group = mpu.get_data_parallel_group(with_context_parallel=True)
            torch.distributed.all_reduce(statistics.sums, group=group)
        if writer:
            statistics.write(writer, iteration)
        statistics.reset()


def is_logged(args: argparse.Namespace, iteration: int) -> bool:
    """Whether to log after an iteration (from 1): at Megatron's interval, and before it ends."""
    at_exit = args.exit_interval and iteration % args.exit_interval == 0
    last = at_exit or iteration == args.train_iters
    return bool(last or iteration % args.tensorboard_log_interval == 0)


def _is_repeated() -> bool:
    """Whether Megatron runs an iteration a second time, to validate a suspicious result."""
    from megatron.core.rerun_state_machine import RerunState, get_rerun_state_machine

    return get_rerun_state_machine().state is RerunState.RERUNNING_IN_PLACE


def install(
    args: argparse.Namespace, config: E2Config, model: "GPTModelConfig"
) -> "Callable[[LossFunction, Tensor], LossFunction] | None":
    """Let a run write the statistics, if it has TensorBoard and draws scales.

    Uses the hook ``finalize_model_grads_func``, which Megatron calls on every rank when all
    micro-batches of a training batch are done: data-parallel ranks meet there anyway.

    Args:
        args: Megatron's.
        config: of the positions.
        model: configuration of the model, not yet built.

    Returns:
        What :func:`megatron_patches.training.step.forward_step` takes as ``watch``.
    """
    if not args.tensorboard_dir or not method_for(config).draws_scale():
        return None
    from megatron.core.distributed import finalize_model_grads

    transformer = model.transformer
    finalize = transformer.finalize_model_grads_func or finalize_model_grads
    statistics = TrainingStatistics(config, finalize)
    transformer.finalize_model_grads_func = statistics.end_of_batch
    return statistics.watch
