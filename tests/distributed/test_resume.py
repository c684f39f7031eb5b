# SPDX-License-Identifier: Apache-2.0
"""A run that stops and goes on equals one that never stopped, bit by bit, with every optimizer."""

import pytest

from tests.distributed.corpus import make_corpus
from tests.distributed.world import TINY_MODEL, TINY_TRAINING, run_world

SHARDED = "--use-distributed-optimizer"
OPTIMIZERS = {
    "fp32": [],
    "fp32, sharded": [SHARDED],
    "fp32, sharded, fully reshardable": [SHARDED, "--dist-ckpt-optim-fully-reshardable"],
    "bf16": ["--bf16"],
    "bf16, sharded": ["--bf16", SHARDED],
    "bf16, sharded, fully reshardable": ["--bf16", SHARDED, "--dist-ckpt-optim-fully-reshardable"],
    "bf16, TP2": ["--bf16", "--tensor-model-parallel-size", "2"],
    "bf16, sharded, --async-save": ["--bf16", SHARDED, "--async-save"],
    "fp32, sharded, PP2": [SHARDED, "--pipeline-model-parallel-size", "2"],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    common = [*TINY_MODEL, *TINY_TRAINING, *make_corpus(folder), "--e2-max-scale", "8"]
    runs = []
    for number, (name, flags) in enumerate(OPTIMIZERS.items()):
        argv, saved = [*common, *flags], str(folder / str(number))
        stop = ["--save", saved, "--save-interval", "5", "--exit-interval", "5"]
        runs += [(f"{name}: whole", argv), (f"{name}: stopped", [*argv, *stop])]
        runs += [(f"{name}: resumed", [*argv, "--load", saved])]
    return run_world(2, runs, folder)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumed_equals_uninterrupted(world, name):
    whole, stopped, resumed = (world[f"{name}: {part}"] for part in ("whole", "stopped", "resumed"))
    assert len(stopped["losses"]) == len(resumed["losses"]) == 5
    assert stopped["losses"] + resumed["losses"] == whole["losses"]
    assert stopped["grad_norms"] + resumed["grad_norms"] == whole["grad_norms"]
