# SPDX-License-Identifier: Apache-2.0
"""Starts one torchrun world for many runs and reads back what they did."""

import json
import os
import subprocess
import sys

from tests.helpers import ROOT

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


def run_world(nproc, runs, folder, timeout=500, **environment):
    """Run every (name, argv) in one world of ``nproc`` ranks; returns name -> result.

    A run may be a dict with more keys of the worker's spec. Fails on the first run that failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spec, results = folder / "spec.json", folder / "results.json"
    spec.write_text(
        json.dumps(
            [
                run if isinstance(run, dict) else dict(zip(("name", "argv"), run, strict=True))
                for run in runs
            ]
        )
    )
    worker = str(ROOT / "tests" / "distributed" / "worker.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(nproc), worker, str(spec), str(results)]
    log = folder / "world.log"
    with log.open("w") as output:
        subprocess.run(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "E2_TRACEBACK": "1", **environment},
            cwd=ROOT,
        )
    assert results.exists(), f"the world died:\n{log.read_text()[-5000:]}"
    outcome = json.loads(results.read_text())
    for name, result in outcome.items():
        assert result["error"] is None, f"{name}: {result['error']}"
    return outcome
