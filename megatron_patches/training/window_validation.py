# SPDX-License-Identifier: Apache-2.0
"""One validation loss per window: true windows of W tokens, at the scale that W is served with."""

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from megatron.core import mpu
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.transformer.module import MegatronModule
from megatron.core.utils import get_attr_wrapped_model
from megatron.training import get_args, print_rank_last
from megatron.training.datasets.data_samplers import MegatronPretrainingSampler
from torch import Tensor
from torch.utils.data import DataLoader

from e2_llm.config import E2Config
from e2_llm.methods import method_for
from e2_llm.sampler import Draw
from megatron_patches.data.batches import get_batch
from megatron_patches.data.datasets import validation_dataset
from megatron_patches.training.curves import write_scalars
from megatron_patches.training.step import LossFunction, run_model, set_draws

Loaders = list[DataLoader | None]


class WindowValidation:
    """Called by Megatron at every evaluation; datasets are built at the first.

    Args:
        config: of the positions; its ``validation_windows`` say what to measure.
    """

    def __init__(self, config: E2Config) -> None:
        self.config = config
        self.loaders: dict[int, Loaders] = {}  # window -> a loader per model chunk
        self.done: tuple[int, dict[int, float]] = (-1, {})

    def __call__(self, model: list[MegatronModule]) -> dict[int, float]:
        """Measure every window; prints one line.

        Args:
            model: chunks of this rank, in evaluation mode.

        Returns:
            Window in tokens -> mean loss per token, the same on all ranks of the last stage and
            empty elsewhere.
        """
        args = get_args()
        # Megatron counts iterations from 0 while it runs them and from 1 when it reports them.
        iteration = args.iteration if args.skip_train else args.curr_iteration + 1
        if self.done[0] == iteration:  # the test set is evaluated right after
            return self.done[1]
        losses = {}
        for window in self.config.validation_windows:
            loss = self._loss(args, model, window)
            if loss is not None:
                losses[window] = loss
        parts = [f"{window}: {loss:.6E}" for window, loss in losses.items()]
        print_rank_last(
            f" validation loss by window at iteration {iteration} | " + " | ".join(parts)
        )
        self.done = (iteration, losses)
        return losses

    def log(self, losses: dict[int, float], iteration: int, writer: Any) -> None:
        """Write the losses as curves, one a window."""
        curves = {f"lm loss validation/window {window}": loss for window, loss in losses.items()}
        write_scalars(writer, curves, iteration)

    def _loss(
        self, args: argparse.Namespace, model: list[MegatronModule], window: int
    ) -> float | None:
        micro_batches = self._micro_batches(args, window)
        if window not in self.loaders:
            self.loaders[window] = self._build_loaders(args, model, window, micro_batches)
        iterators = [iter(loader) if loader else None for loader in self.loaders[window]]
        draw = Draw(method_for(self.config).serving_scale(window), 0)
        reports = get_forward_backward_func()(
            forward_step_func=partial(_forward_step, window=window, draw=draw),
            data_iterator=iterators if len(model) > 1 else iterators[0],
            model=model,
            num_microbatches=micro_batches,
            seq_length=window,
            micro_batch_size=1,
            decoder_seq_length=window,
            forward_only=True,
        )
        if not reports:
            return None  # not the last pipeline stage
        total = torch.stack([report["lm loss"] for report in reports]).sum(0)  # [2]
        torch.distributed.all_reduce(
            total, group=mpu.get_data_parallel_group(with_context_parallel=True)
        )
        return (total[0] / total[1]).item()

    @staticmethod
    def _micro_batches(args: argparse.Namespace, window: int) -> int:
        """Windows per data-parallel rank: the tokens of an ordinary evaluation, at least one."""
        tokens = args.eval_iters * args.eval_global_batch_size * args.seq_length
        count = max(1, tokens // (window * args.data_parallel_size))
        # The interleaved schedule wants a multiple of the pipeline size.
        step = args.pipeline_model_parallel_size if args.virtual_pipeline_model_parallel_size else 1
        return -(-count // step) * step

    @staticmethod
    def _build_loaders(
        args: argparse.Namespace, model: list[MegatronModule], window: int, micro_batches: int
    ) -> Loaders:
        samples = micro_batches * args.data_parallel_size
        loaders: Loaders = []
        for chunk in model:
            vp_stage = get_attr_wrapped_model(chunk, "vp_stage")
            dataset = validation_dataset(args, window, samples, vp_stage)
            if dataset is None:
                loaders.append(None)
                continue
            sampler = MegatronPretrainingSampler(
                total_samples=samples,
                consumed_samples=0,
                micro_batch_size=1,
                data_parallel_rank=mpu.get_data_parallel_rank(),
                data_parallel_size=args.data_parallel_size,
            )
            loaders.append(DataLoader(dataset, batch_sampler=sampler))
        return loaders


def _forward_step(
    data_iterator: Iterator[dict[str, Any]] | None,
    model: MegatronModule,
    window: int,
    draw: Draw,
) -> tuple[Tensor, LossFunction]:
    batch = get_batch(data_iterator, get_attr_wrapped_model(model, "vp_stage"), 1, window)
    set_draws(model, [draw], batch.documents)
    return run_model(model, batch, {})
