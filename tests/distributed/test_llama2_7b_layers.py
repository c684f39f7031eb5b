# SPDX-License-Identifier: Apache-2.0
"""Layers of Llama-2-7B's true sizes, built and trained on CPU ranks at TP2 x PP2, one a stage."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from e2_common.training_time.layout import Layout
from e2_tools.planning import activations
from e2_tools.planning.memory import activation_bytes, static_bytes
from e2_tools.planning.models import MODELS
from e2_tools.planning.run import KERNELS, Run
from tests.distributed.corpus import make_corpus
from tests.distributed.layouts import LAYOUTS
from tests.distributed.world import run_world

NEEDED = 9  # GiB; four ranks of about 1.9
RUN = Run(
    Layout(tensor=2, pipeline=2, micro_batches=2, window=128, sequence_parallel=True),
    sharding="none",
    kernels=KERNELS["cpu"],
    overhead=0,
)
FLAGS = """
    --num-layers 2 --hidden-size 4096 --ffn-hidden-size 11008 --num-attention-heads 32
    --max-position-embeddings 4096 --seq-length 128 --position-embedding-type rope
    --normalization RMSNorm --swiglu --disable-bias-linear
    --untie-embeddings-and-output-weights --hidden-dropout 0 --attention-dropout 0
    --make-vocab-size-divisible-by 1024 --ckpt-format torch_dist --bf16 --sequence-parallel
    --micro-batch-size 1 --global-batch-size 2 --train-iters 3 --lr 0.3 --lr-decay-style constant
    --eval-iters 0 --log-interval 1 --distributed-timeout-minutes 8 --e2-max-scale 20
    --optimizer sgd --sgd-momentum 0.9 --kernel-attention flash
""".split()


def available():
    """GiB of memory, as Linux counts it; elsewhere unknown."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return float("inf")
    return int(re.search(r"MemAvailable:\s+(\d+) kB", text)[1]) / 2**20


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_layers_of_7b_train_at_tp2_pp2_in_the_planned_bytes(tmp_path):
    if available() < NEEDED:
        pytest.skip(f"needs {NEEDED} GiB of memory, {available():.1f} are free")
    data = make_corpus(tmp_path)
    argv = [*FLAGS, *data, *LAYOUTS["TP2×PP2"]]
    result = run_world(4, [{"name": "7b", "argv": argv, "memory": True}], tmp_path, 1100)["7b"]
    assert len(result["losses"]) == 3
    assert result["losses"][-1] < result["losses"][0]
    assert len({draw[0] for _, (draw,) in result["draws"][0]}) > 1  # scales

    llama = MODELS["llama2-7b"]
    sizes = replace(llama.sizes, layers=2, vocab=256, padded_vocab=2048)
    model = replace(llama, sizes=sizes)
    for rank, found in enumerate(result["memory"]):
        stage = rank // 2
        expected = static_bytes(model, RUN, stage)
        expected["optimizer states"] //= 2  # of SGD: one moment, where AdamW has two
        assert {part: found[part] for part in expected} == expected
        held = activation_bytes(model, RUN, stage)
        if stage == 1:
            held += activations.tokens_of(RUN) * activations.head_bytes(model, RUN)
        assert found["activations"] == pytest.approx(held, rel=2e-3)
