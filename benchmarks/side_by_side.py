# SPDX-License-Identifier: Apache-2.0
"""Training steps of one model under several position methods in turn, each timed."""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
from megatron.core.transformer.attention import SelfAttention
from megatron.core.transformer.module import MegatronModule
from megatron.core.utils import get_attr_wrapped_model, unwrap_model
from megatron.training import get_args
from torch import Tensor

from e2_common.progress import Bar, progress_bar
from e2_llm.arguments import own_rope
from e2_llm.config import E2Config
from e2_llm.methods import method_for
from megatron_patches.data.batches import get_batch
from megatron_patches.model.rotary import E2RotaryEmbedding
from megatron_patches.model.temperature import TemperatureSelfAttention
from megatron_patches.training.step import LossFunction, forward_step, run_model


class Variant(NamedTuple):
    """How a step is run: its forward step, its rotary module for each chunk, its attention."""

    forward_step: Callable[..., tuple[Tensor, LossFunction]]
    rotary: list[RotaryEmbedding]
    attention: type[SelfAttention]


def plain_forward_step(
    data_iterator: Iterator[dict[str, Any]] | None, model: MegatronModule
) -> tuple[Tensor, LossFunction]:
    """Our forward step without anything of E2: batch, model, loss.

    Args:
        data_iterator: of this chunk, None on ranks that read no data.
        model: the chunk, wrapped.
    """
    args = get_args()
    vp_stage = get_attr_wrapped_model(model, "vp_stage")
    batch = get_batch(data_iterator, vp_stage, args.micro_batch_size, args.seq_length)
    return run_model(model, batch, {})


class SideBySide:
    """Stands in for ``megatron.training.training.train_step``, which it calls.

    Before each step it puts the next variant into the model. A step's time goes from its start to
    the start of the next one, so that what Megatron logs of it counts; putting in does not.

    Args:
        train_step: Megatron's.
        configs: of each variant, None for Megatron's own module.
        order: index of the variant of every step to be timed; one more has to be run, whose start
            is the end of the last.
        rank: of this process; rank 0 shows the progress.
    """

    def __init__(
        self,
        train_step: Callable[..., Any],
        configs: list[E2Config | None],
        order: list[int],
        rank: int,
    ) -> None:
        self.train_step = train_step
        self.configs = configs
        self.order = [*order, order[0]]
        self.rank = rank
        self.variants: list[Variant] = []
        self.seconds: list[float] = []  # of the timed steps, in the order they ran
        self.started: float | None = None
        self.bar: Bar | None = None

    def __call__(
        self,
        forward_step_func: Callable[..., Any],
        data_iterator: Any,
        model: list[MegatronModule],
        *others: Any,
        **options: Any,
    ) -> Any:
        """Run the next step; arguments and result are those of ``train_step``."""
        if self.started is None:
            self.prepare(model)
        else:
            torch.cuda.synchronize()
            self.seconds.append(time.perf_counter() - self.started)
            self.bar.update()
            self.after_step(data_iterator, model, *others, **options)
        variant = self.variants[self.order[len(self.seconds)]]
        put_in(model, variant)
        torch.cuda.synchronize()
        self.started = time.perf_counter()
        return self.train_step(variant.forward_step, data_iterator, model, *others, **options)

    def after_step(
        self, data_iterator: Any, model: list[MegatronModule], *others: Any, **options: Any
    ) -> None:
        """For subclasses: something to do between the timed steps."""

    def prepare(self, model: list[MegatronModule]) -> None:
        """Make the modules of all variants, from those that the model was built with."""
        own = [chunk.rotary_pos_emb for chunk in unwrap_model(model)]
        before = own_rope(get_args())
        for config in self.configs:
            if config is None:
                self.variants.append(Variant(plain_forward_step, own, SelfAttention))
                continue
            rotary = [E2RotaryEmbedding(module, method_for(config), before) for module in own]
            tempered = method_for(config).rule.has_attention_factor
            attention = TemperatureSelfAttention if tempered else SelfAttention
            self.variants.append(Variant(partial(forward_step, config=config), rotary, attention))
        self.bar = progress_bar(
            len(self.order) - 1,
            "step",
            "steps",
            disable=self.rank != 0,
            file=sys.__stderr__,  # the benchmark shuts Megatron up
        )


def put_in(model: list[MegatronModule], variant: Variant) -> None:
    """Give every chunk the variant's rotary module and class of attention."""
    for chunk, rotary in zip(unwrap_model(model), variant.rotary, strict=True):
        chunk.rotary_pos_emb = rotary
        for layer in chunk.decoder.layers:
            # Differs in its methods only, so the weights may stay where they are.
            layer.self_attention.__class__ = variant.attention
