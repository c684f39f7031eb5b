# SPDX-License-Identifier: Apache-2.0
"""Whole training steps with every kernel that runs on a CPU, against the plain ones, under E2.

Liger's and our Triton kernels run under Triton's interpreter.
"""

import pytest

from tests.distributed.corpus import make_corpus
from tests.distributed.layouts import LAYOUTS, METHOD_FLAGS, RECOMPUTE
from tests.distributed.world import TINY_MODEL, TINY_TRAINING, run_world

pytest.importorskip("liger_kernel")
pytestmark = pytest.mark.timeout(400)

OURS = [
    *("--kernel-attention", "flash", "--kernel-rope", "triton", "--kernel-adamw", "fused"),
    *("--kernel-weight-gradients", "addmm"),
]
LIGER = [
    *("--kernel-norm", "liger", "--kernel-swiglu", "liger", "--kernel-cross-entropy", "liger"),
]
KERNELS = {"plain": ["--kernel-attention", "math"], "fused": [*OURS, *LIGER]}
# The interpreter takes milliseconds for every token, layer and head.
SMALL = ["--seq-length", "12", "--global-batch-size", "2", "--train-iters", "2"]
SETTINGS = {
    # Stages see micro-batches in another order, and later again.
    "e2_yarn": [*METHOD_FLAGS["e2_yarn"], *LAYOUTS["VPP"], *RECOMPUTE],
    "sample": [
        *(*METHOD_FLAGS["e2_yarn"], "--e2-draw-per", "sample", "--micro-batch-size", "2"),
        *("--global-batch-size", "4", "--train-iters", "1"),
        *LAYOUTS["TP2+SP"],
    ],
}
# Without Liger's, which multiply in bf16: the interpreter multiplies bf16 as if it were integers.
BF16 = [*METHOD_FLAGS["e2"], *LAYOUTS["TP2"], "--bf16", "--train-iters", "1"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Every run of this file, in one world of two ranks."""
    folder = tmp_path_factory.mktemp("kernels")
    common = [*TINY_MODEL, *TINY_TRAINING, *make_corpus(folder), *SMALL]
    runs = [
        (f"{setting}/{kernels}", [*common, *flags, *KERNELS[kernels]])
        for setting, flags in SETTINGS.items()
        for kernels in KERNELS
    ]
    runs += [
        ("bf16/plain", [*common, *BF16, *KERNELS["plain"]]),
        ("bf16/fused", [*common, *BF16, *OURS]),
        ("bf16/blocks", [*common, *BF16]),
    ]
    optimizer = [*common, *METHOD_FLAGS["e2"], "--train-iters", "4"]
    optimizer += ["--use-distributed-optimizer", "--dist-ckpt-optim-fully-reshardable"]
    optimizer += ["--global-batch-size", "4"]
    saved = str(folder / "saved")
    stop = ["--save", saved, "--save-interval", "2", "--exit-interval", "2"]
    runs += [
        ("adamw/foreach", [*optimizer, "--kernel-adamw", "foreach"]),
        ("adamw/fused", [*optimizer, "--kernel-adamw", "fused"]),
        ("adamw/stopped", [*optimizer, "--kernel-adamw", "fused", *stop]),
        ("adamw/resumed", [*optimizer, "--kernel-adamw", "fused", "--load", saved]),
        ("adamw/resumed as plain", [*optimizer, "--load", saved]),
    ]
    return folder, run_world(2, runs, folder, TRITON_INTERPRET="1")


@pytest.mark.parametrize("setting", ["e2_yarn", "sample"])
def test_fused_kernels_train_as_the_plain_ones(world, setting):
    _, results = world
    plain, fused = results[f"{setting}/plain"], results[f"{setting}/fused"]
    assert len(plain["losses"]) == len(fused["losses"]) > 0
    assert fused["losses"] == pytest.approx(plain["losses"], rel=2e-6)
    assert fused["grad_norms"] == pytest.approx(plain["grad_norms"], rel=2e-5)
    assert fused["draws"] == plain["draws"]


@pytest.mark.parametrize("kernels", ["fused", "blocks"])
def test_kernels_in_bf16_stay_near(world, kernels):
    _, results = world
    plain, fused = results["bf16/plain"], results[f"bf16/{kernels}"]
    assert fused["losses"] == pytest.approx(plain["losses"], rel=2e-3)
    assert fused["grad_norms"] == pytest.approx(plain["grad_norms"], rel=2e-2)


def test_micro_batches_and_samples_were_drawn_apart(world):
    _, results = world
    assert len({tuple(draw) for _, (draw,) in results["e2_yarn/fused"]["draws"][0]}) == 4
    assert all(first != second for _, (first, second) in results["sample/fused"]["draws"][0])


def test_the_report_names_the_kernels(world):
    folder, _ = world
    log = (folder / "world.log").read_text()
    assert (
        "> kernels: attention flash, norm liger, SwiGLU liger, cross entropy liger, "
        "RoPE triton, AdamW fused, weight gradients addmm"
    ) in log
    assert "> kernels: attention blocks, norm plain, " in log  # what auto takes in bf16


def test_fused_adamw_equals_foreach(world):
    _, results = world
    assert results["adamw/fused"]["losses"] == pytest.approx(
        results["adamw/foreach"]["losses"], rel=1e-6
    )


@pytest.mark.parametrize("run", ["adamw/resumed", "adamw/resumed as plain"])
def test_a_run_resumes_under_the_same_and_another_adamw(world, run):
    _, results = world
    whole, stopped, rest = results["adamw/fused"], results["adamw/stopped"], results[run]
    assert len(stopped["losses"]) == len(rest["losses"]) == 2
    assert stopped["losses"] + rest["losses"] == pytest.approx(whole["losses"], rel=2e-6)
