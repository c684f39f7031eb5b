# SPDX-License-Identifier: Apache-2.0
"""A run goes on: for more iterations, at another learning rate, by another schedule."""

import functools
import re
import shutil

import pytest

from tests.distributed.corpus import make_corpus
from tests.distributed.world import TINY_MODEL, TINY_TRAINING
from tests.end_to_end.command_lines import forked_run
from tests.helpers.commands import refused_by

OPTIMIZERS = {
    "distributed": ["--use-distributed-optimizer"],
    "plain": [],
    "reshardable": ["--use-distributed-optimizer", "--dist-ckpt-optim-fully-reshardable"],
    "bf16": ["--bf16"],
}


def train(command, folder, *flags, code=0):
    """Run it; of every iteration the learning rate, the loss and the mean scale."""
    saving = ["--save", folder, "--save-interval", 100, "--load", folder]
    done = forked_run(*command, *saving, *flags, code=code)
    pattern = r"iteration +(\d+)/.*learning rate: (\S+) .*?lm loss: (\S+) .*?e2 scale: (\S+)"
    return done, {
        int(number): (float(rate), float(loss), float(scale))
        for number, rate, loss, scale in re.findall(pattern, done.stdout)
    }


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    return [*TINY_MODEL, *TINY_TRAINING, *make_corpus(tmp_path_factory.mktemp("going_on"))]


@pytest.fixture(scope="module")
def begun(command, tmp_path_factory):
    """Returns what three iterations with these flags left behind; each is run once."""

    @functools.cache
    def begin(*flags):
        folder = tmp_path_factory.mktemp("begun") / "run"
        train(command, folder, *flags, "--train-iters", 3)
        return folder

    return begin


def test_more_iterations_of_a_constant_schedule_need_no_flag(command, begun, tmp_path):
    """The losses and draws are those of a run that was never ended."""
    _, whole = train(command, tmp_path / "whole", "--train-iters", 6)
    shutil.copytree(begun(), tmp_path / "more")
    done, more = train(command, tmp_path / "more", "--train-iters", 6)
    assert "goes on by the same constant schedule" in done.stdout
    # Megatron's second line after a start is the mean of two iterations, so 5 is left out.
    assert {number: whole[number] for number in (4, 6)} == {n: more[n] for n in (4, 6)}


@pytest.mark.parametrize(
    "name",
    ["distributed", *(pytest.param(name, marks=pytest.mark.slow) for name in list(OPTIMIZERS)[1:])],
)
def test_another_learning_rate_needs_a_flag_and_is_taken(command, begun, tmp_path, name):
    shutil.copytree(begun(*OPTIMIZERS[name]), tmp_path / "run")
    flags = [*OPTIMIZERS[name], "--train-iters", 5, "--lr", "5e-4"]
    done, _ = train(command, tmp_path / "run", *flags, code=2)
    told = refused_by(done, ["--lr 0.001 there, 0.0005 here", "--override-opt"], alone=False)
    assert "\n" not in told
    _, kept = train(command, tmp_path / "run", *flags, "--use-checkpoint-opt_param-scheduler")
    assert {rate for rate, *_ in kept.values()} == {1e-3}
    shutil.rmtree(tmp_path / "run")
    shutil.copytree(begun(*OPTIMIZERS[name]), tmp_path / "run")
    _, taken = train(command, tmp_path / "run", *flags, "--override-opt_param-scheduler")
    assert sorted(taken) == [4, 5]
    assert {rate for rate, *_ in taken.values()} == {5e-4}
    assert taken[4][1:] == kept[4][1:]  # the loss of the first step is before the new rate


def test_more_iterations_of_a_decaying_schedule_need_a_decision(command, begun, tmp_path):
    shutil.copytree(begun("--lr-decay-style", "cosine"), tmp_path / "run")
    flags = ["--lr-decay-style", "cosine", "--train-iters", 6]
    done, _ = train(command, tmp_path / "run", *flags, code=2)
    refused_by(done, ["--lr-decay-iters 24 there, 48 here", "--use-checkpoint-opt"], alone=False)
    _, taken = train(command, tmp_path / "run", *flags, "--override-opt_param-scheduler")
    rates = [rate for rate, *_ in taken.values()]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[-1]
