# SPDX-License-Identifier: Apache-2.0
"""Measured training steps in Megatron: ours with E2 and with fixed RoPE, and stock Megatron."""

import argparse
import contextlib
import gc
import io
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from megatron.core.enums import ModelType
from megatron.core.transformer.module import MegatronModule
from megatron.training import pretrain, training
from megatron.training.argument_utils import gpt_config_from_args, pretrain_cfg_container_from_args

from benchmarks.gpu.plan import AT_LEAST
from benchmarks.gpu.profile import profile
from benchmarks.side_by_side import SideBySide, plain_forward_step, put_in
from e2_common.errors import UserError
from e2_llm.config import E2Config
from e2_tools.planning.models import Model
from megatron_patches.data.datasets import train_valid_test_datasets
from megatron_patches.model.build import model_config
from megatron_patches.runtime.replace import replace
from megatron_patches.start.arguments import parse_arguments

STOCK = """
    --kernel-attention math --kernel-norm plain --kernel-rope plain
    --kernel-cross-entropy plain --kernel-weight-gradients plain --kernel-adamw foreach
""".split()  # noqa: SIM905


class Done(Exception):
    """Ends Megatron's training loop when everything is measured."""


class Measurement(SideBySide):
    """Stands in for Megatron's ``train_step``: warm-up, timed rounds, then a profile.

    Args:
        train_step: Megatron's.
        configs: of the variants, None for Megatron's own RoPE; every round runs each once.
        warm_up: rounds that are not counted.
        rounds: that are timed, fewer if the deadline comes first.
        deadline: on the clock of ``time.monotonic``; ``AT_LEAST`` rounds are timed even behind it.
        profiled: steps of the first variant under the profiler; 0 for none.
        on_cpu: whether the CPU runtime is installed.
    """

    def __init__(
        self,
        train_step: Callable[..., Any],
        configs: list[E2Config | None],
        warm_up: int,
        rounds: int,
        deadline: float,
        profiled: int,
        on_cpu: bool,
    ) -> None:
        generator = random.Random(1)
        count = len(configs)
        order = [
            variant
            for _ in range(warm_up + rounds)
            for variant in generator.sample(range(count), count)
        ]
        super().__init__(train_step, configs, order, 0)
        self.warm_up, self.deadline, self.on_cpu = warm_up, deadline, on_cpu
        self.profiled = profiled
        self.profile: dict[str, Any] | None = None

    def after_step(
        self, data_iterator: Any, model: list[MegatronModule], *others: Any, **options: Any
    ) -> None:
        """Leave Megatron's loop when all is measured, or after a whole round that is late."""
        rounds, rest = divmod(len(self.seconds), len(self.variants))
        enough = rounds >= self.warm_up + AT_LEAST and not rest
        late = enough and time.monotonic() > self.deadline
        if late or len(self.seconds) == len(self.order) - 1:
            self.finish(data_iterator, model, *others, **options)

    def finish(
        self, data_iterator: Any, model: list[MegatronModule], *others: Any, **options: Any
    ) -> None:
        """Profile the first variant, and leave Megatron's loop."""
        self.bar.close()
        if self.profiled:
            variant = self.variants[0]
            put_in(model, variant)
            self.profile = profile(
                lambda: self.train_step(
                    variant.forward_step, data_iterator, model, *others, **options
                ),
                self.profiled,
                self.on_cpu,
            )
        raise Done

    def by_variant(self) -> list[list[float]]:
        """Seconds of the counted steps, of each variant."""
        rows: list[list[float]] = [[] for _ in self.variants]
        for variant, seconds in zip(self.order, self.seconds, strict=False):
            rows[variant].append(seconds)
        return [row[self.warm_up :] for row in rows]


def megatron_arguments(model: Model, layers: int, options: argparse.Namespace) -> list[str]:
    """A Llama of these sizes, trained on made-up data as E2 fine-tunes."""
    sizes = model.sizes
    values = {
        "--num-layers": layers,
        "--hidden-size": sizes.hidden,
        "--ffn-hidden-size": sizes.ffn,
        "--num-attention-heads": sizes.heads,
        "--seq-length": model.window,
        "--max-position-embeddings": model.window,
        "--micro-batch-size": options.micro_batch_size,
        "--global-batch-size": options.micro_batch_size * options.micro_batches,
        "--vocab-size": sizes.vocab,
        "--seed": options.seed,
    }
    fixed = """
        --position-method none --position-embedding-type rope --normalization RMSNorm --swiglu
        --disable-bias-linear
        --untie-embeddings-and-output-weights --hidden-dropout 0 --attention-dropout 0
        --mock-data --tokenizer-type NullTokenizer --make-vocab-size-divisible-by 1
        --num-workers 0 --lr 1e-5 --lr-decay-style constant --weight-decay 0 --adam-beta2 0.95
        --clip-grad 1.0 --train-iters 1000000 --eval-iters 0 --log-interval 1000000 --bf16
        --use-distributed-optimizer
    """.split()  # noqa: SIM905
    return fixed + [str(word) for pair in values.items() for word in pair]


def measure(
    arguments: list[str],
    configs: Callable[[E2Config], list[E2Config | None]],
    stock: bool,
    limits: dict[str, Any],
    on_cpu: bool,
) -> dict[str, Any]:
    """Train one model under one or more variants.

    Args:
        arguments: for Megatron and for us.
        configs: the variants, given the configuration of the command line.
        stock: build Megatron's own local layers and nothing of ours.
        limits: ``warm_up``, ``rounds``, ``deadline``, ``profiled`` of :class:`Measurement`.
        on_cpu: whether the CPU runtime is installed.

    Returns:
        ``seconds`` of each variant's steps, ``peak_bytes``, ``kernels`` by part, ``profile``.

    Raises:
        UserError: Megatron refuses an argument.
    """
    sys.argv[1:] = arguments
    talk = io.StringIO()
    original = training.train_step
    try:
        with contextlib.redirect_stdout(talk), contextlib.redirect_stderr(talk):
            args, plain = parse_arguments(on_cpu)
            if stock:
                args.create_attention_mask_in_dataloader = True
                args.bias_swiglu_fusion = not on_cpu
            model = model_config(args, plain)
            if stock:
                model = gpt_config_from_args(args)
            steps = Measurement(original, configs(plain), **limits, on_cpu=on_cpu)
            replace(training, "train_step", steps)
            torch.cuda.reset_peak_memory_stats()
            with contextlib.suppress(Done):
                pretrain(
                    pretrain_cfg_container_from_args(args, model),
                    train_valid_test_datasets,
                    ModelType.encoder_or_decoder,
                    plain_forward_step,
                )
            if not steps.seconds:
                raise UserError("Megatron ended before a step was measured")
            return {
                "seconds": steps.by_variant(),
                "peak_bytes": torch.cuda.max_memory_allocated(),
                "kernels": _kernels(args, stock),
                "profile": steps.profile,
            }
    finally:
        training.train_step = original
        end_run()


def _kernels(args: argparse.Namespace, stock: bool) -> dict[str, str]:
    if not stock:
        return dict(args.kernels)
    own = {"attention": "Megatron's DotProductAttention", "norm": "Megatron's WrappedTorchNorm"}
    return {**args.kernels, **own, "swiglu": "compile" if args.bias_swiglu_fusion else "plain"}


def end_run() -> None:
    """Forget Megatron's globals and free what its model held."""
    training.destroy_global_state()
    gc.collect()
    if torch.distributed.is_initialized():
        groups = torch.distributed.distributed_c10d._world.pg_map
        for group in list(groups):
            if group is not torch.distributed.group.WORLD:
                torch.distributed.destroy_process_group(group)
    torch.cuda.empty_cache()
