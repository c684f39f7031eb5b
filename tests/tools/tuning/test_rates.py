# SPDX-License-Identifier: Apache-2.0
"""The learning rates of a run that goes on are those that its own command line says."""

import pytest
import torch

from e2_tools.tuning.arguments import DECAY_STYLES, build_parser
from e2_tools.tuning.trainer import Rates, learning_rates


def args(*more):
    words = "--model m --save s --data-path d --train-iters 8 --lr 1e-2".split()
    return build_parser().parse_args([*words, *more])


def optimizer():
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    return torch.optim.AdamW([{"params": weight, "weight_decay": 0.0} for weight in weights])


def rates_used(optimizer, scheduler, steps):
    used = []
    for _ in range(steps):
        used.append({group["lr"] for group in optimizer.param_groups})
        optimizer.step()
        scheduler.step()
    return used


@pytest.mark.parametrize("style", DECAY_STYLES)
def test_a_run_that_goes_on_has_the_rates_of_its_flags(style):
    now = args("--lr", "3e-3", "--lr-decay-style", style, "--lr-warmup-iters", "5")
    rate = learning_rates(now)
    whole = optimizer()
    expected = rates_used(whole, Rates(whole, rate), 8)
    assert expected == [{rate(step)} for step in range(8)]
    before, after = optimizer(), optimizer()
    first = Rates(before, learning_rates(args("--min-lr", "1e-3")))
    rates_used(before, first, 4)
    second = Rates(after, rate)
    after.load_state_dict(before.state_dict())  # in the order of a Trainer
    second.load_state_dict(first.state_dict())
    assert second.get_last_lr() == [rate(4)] * 2  # what is logged
    assert rates_used(after, second, 4) == expected[4:]
