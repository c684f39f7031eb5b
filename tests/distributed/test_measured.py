# SPDX-License-Identifier: Apache-2.0
"""Planned bytes against those of the real model and optimizer, built by Megatron on CPU ranks."""

from dataclasses import replace

import pytest

from e2_common.model_sizes import ModelSizes
from e2_common.training_time.layout import Layout
from e2_tools.planning import activations
from e2_tools.planning.memory import activation_bytes, static_bytes
from e2_tools.planning.models import Model
from e2_tools.planning.run import KERNELS, Run
from tests.distributed.corpus import make_corpus
from tests.distributed.layouts import LAYOUTS, RECOMPUTE
from tests.distributed.world import TINY_MODEL, TINY_TRAINING, run_world

pytestmark = pytest.mark.timeout(400)
MODEL = Model("tiny", ModelSizes(4, 64, 160, 4, 2, 16, 256, 256, False), 64).padded(1, 64)
ODD = Model("odd", ModelSizes(4, 72, 152, 4, 2, 18, 256, 256, True), 64, True, True)
ODD_FLAGS = [
    *("--hidden-size", "72", "--ffn-hidden-size", "152", "--qk-layernorm", "--add-qkv-bias"),
    *("--kv-channels", "18"),
]
TIED = "--untie-embeddings-and-output-weights"
# Plans are for flash attention, which keeps a sum of each softmax; `blocks` keeps none.
BF16, DISTRIBUTED = ["--bf16", "--kernel-attention", "flash"], ["--use-distributed-optimizer"]
TP2 = Layout(tensor=2, micro_batches=4)
PP2 = Layout(pipeline=2, micro_batches=4)
DP2 = Layout(data=2, micro_batches=2)


def planned(layout, precision="bf16", sharding="none"):
    return Run(replace(layout, window=64), precision, sharding, KERNELS["cpu"], overhead=0)


# name -> (model, planned run, flags), in a world of two ranks with 4 samples an iteration.
RUNS = {
    "DP2": (MODEL, planned(DP2), BF16),
    "DP2, fp32, distributed": (
        MODEL,
        planned(DP2, "fp32", "distributed-optimizer"),
        DISTRIBUTED,
    ),
    "DP2, distributed": (
        MODEL,
        planned(DP2, sharding="distributed-optimizer"),
        [*BF16, *DISTRIBUTED],
    ),
    "TP2": (MODEL, planned(TP2), [*BF16, *LAYOUTS["TP2"]]),
    "TP2, SP": (
        MODEL,
        planned(Layout(tensor=2, micro_batches=4, sequence_parallel=True)),
        [*BF16, *LAYOUTS["TP2+SP"]],
    ),
    "PP2": (MODEL, planned(PP2), [*BF16, *LAYOUTS["PP2"]]),
    "VPP": (
        MODEL,
        planned(Layout(pipeline=2, virtual=2, micro_batches=4)),
        [*BF16, *LAYOUTS["VPP"]],
    ),
    "TP2, SP, recompute": (
        MODEL,
        planned(Layout(tensor=2, micro_batches=4, sequence_parallel=True, recompute="full")),
        [*BF16, *LAYOUTS["TP2+SP"], *RECOMPUTE],
    ),
    "odd sizes, tied, PP2": (
        ODD,
        planned(PP2, sharding="distributed-optimizer"),
        [*BF16, *DISTRIBUTED, *LAYOUTS["PP2"], *ODD_FLAGS],
    ),
    "odd sizes, tied, DP2": (
        ODD,
        planned(DP2, sharding="distributed-optimizer"),
        [*BF16, *DISTRIBUTED, *ODD_FLAGS],
    ),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What every rank of every run held."""
    folder = tmp_path_factory.mktemp("memory")
    data = make_corpus(folder)
    runs = []
    for name, (model, _, flags) in RUNS.items():
        common = [flag for flag in TINY_MODEL if flag != TIED or not model.sizes.tied]
        few = ["--train-iters", "1", "--global-batch-size", "4"]
        argv = [*common, *TINY_TRAINING, *few, *data, "--e2-max-scale", "8", *flags]
        runs.append({"name": name, "argv": argv, "memory": True})
    return {name: run["memory"] for name, run in run_world(2, runs, folder).items()}


def stage_of(rank, run):
    return rank if run.layout.pipeline == 2 else 0


@pytest.mark.parametrize("name", RUNS)
def test_weights_gradients_and_optimizer_equal_the_real_ones_to_the_byte(measured, name):
    model, run, _ = RUNS[name]
    for rank, found in enumerate(measured[name]):
        shard = rank if run.shards > 1 else 0
        expected = static_bytes(model, run, stage_of(rank, run), shard)
        assert {part: found[part] for part in expected} == expected


@pytest.mark.parametrize("name", RUNS)
def test_activations_equal_the_real_ones(measured, name):
    model, run, _ = RUNS[name]
    for rank, found in enumerate(measured[name]):
        stage = stage_of(rank, run)
        tokens = activations.tokens_of(run)
        held = activation_bytes(model, run, stage)
        moments = [held]
        if stage == run.layout.pipeline - 1:
            moments.append(held + tokens * activations.head_bytes(model, run))
        if run.layout.recompute == "full":
            moments.append(held + tokens * activations.recomputed_bytes(model, run))
        assert found["activations"] == pytest.approx(max(moments), rel=2e-3), (rank, moments)
