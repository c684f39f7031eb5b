# SPDX-License-Identifier: Apache-2.0
"""A recipe as a real Slurm job on one node: told to end, it saves, queues up again and goes on."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.distributed.corpus import make_corpus, make_tokenizer
from tests.families import make_model
from tests.multihost.fault_table import record
from tests.multihost.hosts import ROOT, logged, losses, same_curve, wait_for
from tests.multihost.slurm import cluster, missing

REASON = missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(1200),
]
ITERATIONS = 24


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """The environment of a recipe: a tiny model and corpus."""
    folder = tmp_path_factory.mktemp("recipe")
    make_corpus(folder)
    model = folder / "model"
    make_model("smollm2").save_pretrained(model)
    for file in make_tokenizer(folder).iterdir():
        shutil.copy(file, model)
    values = {"HF_MODEL": model, "BASE": folder / "base", "DATA": folder / "corpus"}
    values |= {"GPUS_PER_NODE": 2, "TP": 2, "SEQ_LENGTH": 64, "GLOBAL_BATCH": 4}
    values |= {"TRAIN_ITERS": ITERATIONS, "PYTHON": sys.executable, "PYTHONWARNINGS": "ignore"}
    values["EXTRA_ARGS"] = "--split 60,20,20 --log-interval 1 --eval-iters 1"
    environment = {name: str(value) for name, value in values.items()}
    convert = ["bash", "examples/smollm2_135m/convert.sh"]
    subprocess.run(convert, cwd=ROOT, env={**os.environ, **environment}, check=True, timeout=300)
    return environment


@pytest.fixture(scope="module")
def uninterrupted(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    with (folder / "host.log").open("w") as log:
        subprocess.run(
            ["bash", "examples/smollm2_135m/train.sh", "--out", str(folder / "out")],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
            timeout=400,
        )
    return losses(folder)


def test_a_job_told_to_end_saves_and_goes_on_after_it_has_queued(settings, uninterrupted, tmp_path):
    (tmp_path / "slurm").mkdir()
    with cluster(tmp_path / "slurm") as slurm:
        log = tmp_path / "host.log"
        job = slurm(
            *("sbatch", "--parsable", "--chdir", ROOT, "--output", log),
            *("examples/smollm2_135m/slurm.sbatch", "--out", tmp_path / "out"),
            **settings,
        )
        wait_for(lambda: 5 in losses(tmp_path), 400, "iteration 5")
        # What Slurm does by itself, for --signal, five minutes before the end.
        slurm("scancel", "--signal", "TERM", "--batch", job)
        seconds = wait_for(lambda: slurm.state(job) == "PENDING", 200, "queued up again")
        tracker = tmp_path / "out" / "checkpoints" / "latest_checkpointed_iteration.txt"
        assert int(tracker.read_text()) == max(losses(tmp_path)) < ITERATIONS
        slurm("scontrol", "update", f"JobId={job}", "StartTime=now")  # or it rests for two minutes
        wait_for(lambda: slurm.state(job) == "COMPLETED", 400, "the end")
    assert "SIGTERM: saving, then ending" in log.read_text()
    done = [iteration for iteration, _ in logged(tmp_path)]
    assert len(done) == len(set(done)) == ITERATIONS
    equal = same_curve(losses(tmp_path), uninterrupted)
    record(
        fault="the time of a Slurm job is nearly up",
        where="one host, TP2, `examples/smollm2_135m/slurm.sbatch`",
        noticed=f"{seconds:.0f} s, saved and queued up again",
        restart="Slurm",
        lost=0,
        equal=equal,
    )
    assert equal
