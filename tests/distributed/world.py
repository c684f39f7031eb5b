# SPDX-License-Identifier: Apache-2.0
"""Starts one world of ranks for many runs and reads back what they did."""

import json

from tests.helpers.preloaded import run_ranks

TINY_MODEL = """
    --num-layers 4 --hidden-size 64 --ffn-hidden-size 160 --num-attention-heads 4
    --group-query-attention --num-query-groups 2 --max-position-embeddings 64 --seq-length 64
    --position-embedding-type rope --normalization RMSNorm --swiglu --disable-bias-linear
    --untie-embeddings-and-output-weights --hidden-dropout 0 --attention-dropout 0
    --make-vocab-size-divisible-by 64 --ckpt-format torch_dist
""".split()

TINY_TRAINING = """
    --micro-batch-size 1 --global-batch-size 8 --train-iters 10 --lr 1e-3 --lr-decay-style constant
    --eval-iters 0 --log-interval 1 --distributed-timeout-minutes 2
""".split()


# Every rank of every run would start four processes that load data.
LOADING_ALONE = ["--num-workers", "0"]


def run_world(ranks, runs, folder, timeout=500, **environment):
    """Run every (name, argv) in one world of so many ranks; returns name -> result.

    A run may be a dict with more keys of the worker's spec. Fails on the first run that failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spec, results, log = folder / "spec.json", folder / "results.json", folder / "world.log"
    spec.write_text(
        json.dumps(
            [
                run if isinstance(run, dict) else dict(zip(("name", "argv"), run, strict=True))
                for run in runs
            ]
        )
    )
    run_ranks(
        *("tests.distributed.worker", [spec, results], [log] * ranks, timeout),
        **{"fresh": bool(environment), "E2_TRACEBACK": "1", **environment},
    )
    assert results.exists(), f"the world died:\n{log.read_text()[-5000:]}"
    outcome = json.loads(results.read_text())
    for name, result in outcome.items():
        assert result["error"] is None, f"{name}: {result['error']}"
    return outcome
