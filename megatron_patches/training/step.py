# SPDX-License-Identifier: Apache-2.0
"""The forward step of training: batch, draw, model, loss."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from megatron.core import mpu
from megatron.core.rerun_state_machine import get_rerun_state_machine
from megatron.core.transformer.module import MegatronModule
from megatron.core.utils import get_attr_wrapped_model
from megatron.training import get_args, get_timers
from torch import Tensor

from e2_llm.batch_draws import iteration_draws, micro_batch_draws, shown
from e2_llm.config import E2Config
from e2_llm.methods import method_for
from e2_llm.sampler import Draw, sample_indices
from megatron_patches.data.batches import Batch, get_batch
from megatron_patches.data.documents import Documents
from megatron_patches.data.joints import Joints

SPIKE = 10  # a loss above this many times the largest one seen is reported as spiky

LossFunction = Callable[[Tensor], tuple[Tensor, Tensor, dict[str, Tensor]]]


def set_draws(
    model: MegatronModule,
    draws: list[Draw],
    documents: Documents | None = None,
    joints: Sequence[Joints] | None = None,
) -> None:
    """Give a model chunk, wrapped or not, the draws of its next forward pass.

    Args:
        model: the chunk.
        draws: one for all samples of the micro-batch, or one for each.
        documents: of the micro-batch, if they are apart.
        joints: of each sample, if a placement needs them.
    """
    rotary = get_attr_wrapped_model(model, "rotary_pos_emb")
    if hasattr(rotary, "set_draws"):  # Megatron's own module stays in place for method none
        rotary.set_draws(draws, documents.lengths if documents else None, joints)


def forward_step(
    data_iterator: Iterator[dict[str, Any]] | None,
    model: MegatronModule,
    config: E2Config,
    watch: Callable[[LossFunction, Tensor], LossFunction] | None = None,
) -> tuple[Tensor, LossFunction]:
    """Run one micro-batch through a model chunk; ``pretrain`` calls it for training and validation.

    Args:
        data_iterator: of this chunk, None on ranks that read no data.
        model: the chunk, wrapped.
        config: of the positions.
        watch: given the loss function of training and the loss mask [b, s], returns the one to use.

    Returns:
        The chunk's output (hidden states [s, b, h], or on the last stage losses [b, s]) and the
        function that turns the latter into what Megatron sums up.
    """
    args = get_args()
    training = model.training
    micro_batch_size = args.micro_batch_size if training else args.eval_micro_batch_size
    timers = get_timers()
    timers("batch-generator", log_level=2).start()
    vp_stage = get_attr_wrapped_model(model, "vp_stage")
    batch = get_batch(data_iterator, vp_stage, micro_batch_size, args.seq_length)
    timers("batch-generator").stop()

    draws = current_draws(args, model, config) if training else [plain_draw(config)]
    set_draws(model, draws, batch.documents, batch.joints if training else None)
    output, loss = run_model(model, batch, draw_log(args, config) if training else {})
    return output, watch(loss, batch.loss_mask) if watch and training else loss


def run_model(
    model: MegatronModule, batch: Batch, log: dict[str, float]
) -> tuple[Tensor, LossFunction]:
    """Run a batch through a model chunk.

    Args:
        model: the chunk, wrapped; its draws are set.
        batch: what this pipeline stage needs.
        log: numbers to show beside the loss.

    Returns:
        See :func:`forward_step`.
    """
    output = model(
        batch.tokens,
        batch.position_ids,
        batch.attention_mask,
        labels=batch.labels,
        loss_mask=batch.loss_mask,
        packed_seq_params=batch.documents,
    )
    return output, partial(loss_function, batch.loss_mask, log)


def current_draws(args: argparse.Namespace, model: MegatronModule, config: E2Config) -> list[Draw]:
    """The draws of the micro-batch that the schedule is about to run on this chunk.

    The schedule writes the micro-batch number into every layer, for each chunk and in any order
    of pipeline stages, so all ranks agree without counting calls.
    """
    layers = get_attr_wrapped_model(model, "decoder").layers
    if not layers:  # an embedding-only stage has no attention to position
        return [plain_draw(config)]
    return draws_of(args, layers[0].current_microbatch, config)


def plain_draw(config: E2Config) -> Draw:
    """What validation on training windows is positioned by."""
    return method_for(config).validation_draw()


def draws_of(args: argparse.Namespace, micro_batch: int, config: E2Config) -> list[Draw]:
    """The draws of a micro-batch of this data-parallel rank, by its number in the iteration."""
    indices = sample_indices(
        args.consumed_train_samples,
        micro_batch,
        args.micro_batch_size,
        mpu.get_data_parallel_rank(),
        mpu.get_data_parallel_world_size(),
    )
    return micro_batch_draws(config, args.seed, indices, args.consumed_train_samples)


def draw_log(args: argparse.Namespace, config: E2Config) -> dict[str, float]:
    """What the console line and TensorBoard show of an iteration's draws, over all ranks.

    See :func:`~e2_llm.batch_draws.shown`; nothing of a method that draws no scale. Megatron's
    console line averages over --log-interval iterations.
    """
    if not method_for(config).draws_scale():
        return {}
    from megatron.core.num_microbatches_calculator import get_current_running_global_batch_size

    return _draw_log(
        config,
        args.seed,
        args.consumed_train_samples,
        get_current_running_global_batch_size(),
        args.micro_batch_size,
    )


@lru_cache(maxsize=2)  # asked by every micro-batch of an iteration
def _draw_log(config: E2Config, *where: int) -> dict[str, float]:
    return shown(config, iteration_draws(config, *where))


def loss_function(
    loss_mask: Tensor, log: dict[str, float], output: Tensor
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Sum the token losses of a micro-batch.

    Args:
        loss_mask: [b, s], 1 where a token counts.
        log: numbers to show beside the loss, the same on every rank and micro-batch.
        output: token losses [b, s].

    Returns:
        Summed loss (a scalar), number of tokens, and what is logged: ``lm loss`` as
        [sum, tokens] so that Megatron averages over all tokens of the global batch.
    """
    args = get_args()
    mask = loss_mask.view(-1).float()
    loss = torch.sum(output.view(-1).float() * mask)
    tokens = mask.sum().detach().to(torch.int)
    report = {"lm loss": torch.cat([loss.detach().view(1), tokens.view(1)])}
    report |= {name: torch.full((1,), float(value), device="cuda") for name, value in log.items()}

    check = partial(get_rerun_state_machine().validate_result, result=loss, tolerance=0.0)
    if args.check_for_nan_in_loss_and_grad:
        # Each check waits for the device, so NaN and Inf are one.
        check(rejection_func=_is_not_finite, message="found NaN or Inf in the local loss")
    if args.check_for_spiky_loss:
        is_spike = partial(
            get_rerun_state_machine().is_unexpectedly_large, threshold=SPIKE, context="loss"
        )
        check(rejection_func=is_spike, message="spiky loss", fatal=False)
    return loss, tokens, report


def _is_not_finite(loss: Tensor) -> Tensor:
    return ~torch.isfinite(loss)
