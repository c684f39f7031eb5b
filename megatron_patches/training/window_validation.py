# SPDX-License-Identifier: Apache-2.0
"""One validation loss per window: true windows of W tokens, at the scale that W is served with.

Beside it how much the context gives: the loss of a window's last quarter without its first half,
less that loss within the whole window. A model that cannot use what lies far back gains nothing.
"""

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
from e2_llm.window_loss import WindowLoss
from megatron_patches.data.batches import Batch, get_batch
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
        self.done: tuple[int, dict[int, WindowLoss]] = (-1, {})

    def __call__(self, model: list[MegatronModule]) -> dict[int, WindowLoss]:
        """Measure every window; prints a line of losses and one of what the context gives.

        Args:
            model: chunks of this rank, in evaluation mode.

        Returns:
            Window in tokens -> losses, the same on all ranks of the last stage and empty elsewhere.
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
        parts = [f"{window}: {loss.mean:.6E}" for window, loss in losses.items()]
        print_rank_last(
            f" validation loss by window at iteration {iteration} | " + " | ".join(parts)
        )
        gains = [
            f"{window}: {loss.gain:+.4f} ({loss.last:.4f} with, {loss.alone:.4f} without)"
            for window, loss in losses.items()
            if loss.gain is not None
        ]
        if gains:
            print_rank_last(
                f" last quarter, without and with the window's first half, at iteration {iteration}"
                " | " + " | ".join(gains)
            )
        self.done = (iteration, losses)
        return losses

    def log(self, losses: dict[int, WindowLoss], iteration: int, writer: Any) -> None:
        """Write the losses and gains as curves, one a window."""
        curves = {}
        for window, loss in losses.items():
            curves[f"lm loss validation/window {window}"] = loss.mean
            if loss.gain is not None:
                curves[f"context gain/window {window}"] = loss.gain
        write_scalars(writer, curves, iteration)

    def _loss(
        self, args: argparse.Namespace, model: list[MegatronModule], window: int
    ) -> WindowLoss | None:
        micro_batches = self._micro_batches(args, window)
        if window not in self.loaders:
            self.loaders[window] = self._build_loaders(args, model, window, micro_batches)
        # Every stage of the pipeline takes part in both; the last one gets to know the losses.
        run = partial(self._run, model, window, micro_batches)
        whole = run(0)
        half = run(window // 2) if _has_halves(args, window) else None
        return WindowLoss(*whole, half and half[1]) if whole else None

    def _run(
        self, model: list[MegatronModule], window: int, micro_batches: int, first: int
    ) -> tuple[float, float] | None:
        """The mean loss of windows from token ``first`` on, and that of their last quarter."""
        iterators = [iter(loader) if loader else None for loader in self.loaders[window]]
        draw = Draw(method_for(self.config).serving_scale(window), 0)
        reports = get_forward_backward_func()(
            forward_step_func=partial(_forward_step, window=window, first=first, draw=draw),
            data_iterator=iterators if len(model) > 1 else iterators[0],
            model=model,
            num_microbatches=micro_batches,
            seq_length=window - first,
            micro_batch_size=1,
            decoder_seq_length=window - first,
            forward_only=True,
        )
        if not reports:
            return None
        total = torch.stack([report["losses"] for report in reports]).sum(0)  # [4]
        torch.distributed.all_reduce(
            total, group=mpu.get_data_parallel_group(with_context_parallel=True)
        )
        return (total[0] / total[1]).item(), (total[2] / total[3]).item()

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


def _has_halves(args: argparse.Namespace, window: int) -> bool:
    """Whether half a window is a window that this run can compute."""
    ranks = args.tensor_model_parallel_size  # of sequence parallel
    apart = args.dataloader_inter_document_masking  # then a half may begin within a document
    return args.context_parallel_size == 1 and not apart and window % (2 * ranks) == 0


def _forward_step(
    data_iterator: Iterator[dict[str, Any]] | None,
    model: MegatronModule,
    window: int,
    first: int,
    draw: Draw,
) -> tuple[Tensor, LossFunction]:
    batch = get_batch(data_iterator, get_attr_wrapped_model(model, "vp_stage"), 1, window)
    if first:
        batch = _from(batch, first)
    set_draws(model, [draw], batch.documents)
    output, loss = run_model(model, batch, {})
    return output, partial(_with_last_quarter, loss, batch.loss_mask, max(1, window // 4))


def _from(batch: Batch, first: int) -> Batch:
    """The batch without the first tokens of its windows, the others as a window of their own."""
    cut = {
        name: tensor if tensor is None else tensor[:, first:].contiguous()
        for name, tensor in batch._asdict().items()
        if name in ("tokens", "labels", "loss_mask")
    }
    mask, ids = batch.attention_mask, batch.position_ids
    return batch._replace(
        **cut,
        attention_mask=mask if mask is None else mask[..., first:, first:].contiguous(),
        position_ids=ids if ids is None else ids[:, : ids.size(1) - first].contiguous(),
    )


def _with_last_quarter(
    loss_function: LossFunction, loss_mask: Tensor, quarter: int, output: Tensor
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The loss as ever; the report is [sum, tokens] of all tokens and of the last, [4]."""
    loss, tokens, report = loss_function(output)
    mask = loss_mask[:, -quarter:].float()
    last = torch.stack([(output[:, -quarter:].float() * mask).sum(), mask.sum()])
    return loss, tokens, {"losses": torch.cat([report["lm loss"].float(), last])}
