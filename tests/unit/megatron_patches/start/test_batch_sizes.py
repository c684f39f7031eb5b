# SPDX-License-Identifier: Apache-2.0
"""Batch sizes of a run, and what the log says of its draws, against Megatron's own calculator."""

from argparse import Namespace
from itertools import groupby

import pytest
from megatron.core import num_microbatches_calculator as megatron

from e2_llm.batch_draws import micro_batch_draws
from e2_llm.config import E2Config
from megatron_patches.start.batch_sizes import phases
from megatron_patches.start.report import _work
from megatron_patches.training.step import draw_log

WINDOW = 64


def run(**values):
    defaults = {"micro_batch_size": 1, "data_parallel_size": 2, "global_batch_size": 8}
    defaults |= {"train_iters": None, "train_samples": None, "seq_length": WINDOW, "seed": 5}
    defaults |= {"step_batch_size_schedule": None, "decrease_batch_size_if_needed": False}
    return Namespace(**defaults | values)


@pytest.fixture
def calculator():
    """Starts Megatron's for a run; ends it after the test."""

    def start(args):
        megatron.init_num_microbatches_calculator(
            rank=1,
            global_batch_size=args.global_batch_size,
            micro_batch_size=args.micro_batch_size,
            data_parallel_size=args.data_parallel_size,
            decrease_batch_size_if_needed=args.decrease_batch_size_if_needed,
            step_batch_size_schedule=args.step_batch_size_schedule,
            seq_length=args.seq_length,
        )

    yield start
    megatron.destroy_num_microbatches_calculator()


def megatrons(args):
    """The sizes of all iterations, as Megatron's training loop asks for them."""
    sizes, samples = [], 0
    while len(sizes) < args.train_iters if args.train_iters else samples < args.train_samples:
        megatron.update_num_microbatches(samples, consistency_check=False)
        ranks = args.micro_batch_size * args.data_parallel_size
        sizes.append(megatron.get_num_microbatches() * ranks)
        samples += sizes[-1]
    return sizes


@pytest.mark.parametrize(
    "values",
    [
        {"train_iters": 7},
        {"train_iters": 7, "global_batch_size": 9, "decrease_batch_size_if_needed": True},
        {"train_samples": 40},
        {"train_iters": 12, "step_batch_size_schedule": "0:2 512:4 2048:8"},
        {"train_iters": 3, "step_batch_size_schedule": "0:2 512:4 2048:8"},
        {"train_iters": 50, "step_batch_size_schedule": "0:2 500:6 1K:4"},
        {"train_samples": 100, "step_batch_size_schedule": "0:2 512:4 2048:8"},
        {"train_samples": 3, "step_batch_size_schedule": "0:2 512:4"},
    ],
    ids=str,
)
def test_sizes_are_megatrons(calculator, values):
    args = run(**values)
    calculator(args)
    expected = megatrons(args)
    found = [size for phase in phases(args) for size in [phase.windows] * phase.iterations]
    assert found == expected
    assert len(phases(args)) == len([*groupby(expected)])
    sizes = {"num_experts": 8}  # no FLOPs
    tokens = sum(expected) * WINDOW
    assert f", {len(expected)} iterations, {tokens:,} tokens in all" in _work(
        Namespace(**vars(args) | sizes), None
    )


def test_a_run_without_an_end_has_no_sum():
    endless = run(step_batch_size_schedule="0:2 512:4")
    assert [phase.iterations for phase in phases(endless)] == [4, None]
    assert _work(endless, None).startswith("128 to 256 tokens an iteration (2 to 4 windows of 64")
    assert "in all" not in _work(endless, None)


@pytest.mark.parametrize("size", [8, 9, 11])
def test_the_logged_scale_is_the_mean_of_the_draws_that_were_made(calculator, size):
    args = run(global_batch_size=size, micro_batch_size=2, consumed_train_samples=16)
    args.decrease_batch_size_if_needed = True
    calculator(args)
    config = E2Config(base_window=WINDOW, train_window=WINDOW)
    scales = []
    for micro_batch in range(megatron.get_num_microbatches()):
        for rank in range(args.data_parallel_size):
            first = 16 + (micro_batch * args.data_parallel_size + rank) * args.micro_batch_size
            indices = range(first, first + args.micro_batch_size)
            (draw,) = micro_batch_draws(config, args.seed, indices, 16)
            scales.append(draw.scale)
    assert len(scales) == 4
    assert draw_log(args, config)["e2 scale"] == sum(scales) / len(scales)
