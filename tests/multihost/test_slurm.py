# SPDX-License-Identifier: Apache-2.0
"""A recipe as a real Slurm job on one node: told to end, it saves, queues up again and goes on."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.distributed.corpus import make_corpus, make_tokenizer
from tests.helpers.families import make_model
from tests.multihost.fault_table import record
from tests.multihost.hosts import ROOT, logged, losses, same_curve, wait_for
from tests.multihost.slurm import cluster, missing
from tests.multihost.stand_ins import RANK, TORCHRUN

REASON = missing()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(1200),
]
ITERATIONS = 150


@pytest.fixture
def slurm(tmp_path):
    (tmp_path / "slurm").mkdir()
    with cluster(tmp_path / "slurm") as found:
        yield found


def submit(slurm, folder, **settings):
    """Submit the smallest recipe; returns the job's number. Its output goes to ``folder``."""
    return slurm(
        *("sbatch", "--parsable", "--chdir", ROOT, "--output", folder / "host.log"),
        *("examples/smollm2_135m/slurm.sbatch", "--out", folder / "out"),
        **settings,
    )


def tell_to_end(slurm, job):
    """Signal as Slurm itself does, for --signal, five minutes before the end."""
    slurm("scancel", "--signal", "TERM", "--batch", job)
    return wait_for(lambda: slurm.state(job) == "PENDING", 200, "queued up again")


def test_the_signal_reaches_the_ranks(slurm, tmp_path):
    """Real Slurm and scripts, ranks that only wait for the signal."""
    for name, text in {"torchrun": TORCHRUN, "rank": RANK}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    standing_in = {"PYTHON": str(tmp_path / "torchrun"), "STATE": str(tmp_path)}
    job = submit(slurm, tmp_path, GPUS_PER_NODE="2", **standing_in)
    ready = [tmp_path / f"ready-{rank}" for rank in (1, 2)]
    wait_for(lambda: all(path.exists() for path in ready), 100, "the ranks")
    tell_to_end(slurm, job)
    assert all((tmp_path / f"saved-{rank}").exists() for rank in (1, 2))
    slurm("scancel", job)
    assert "SIGTERM: saving, then ending" in (tmp_path / "host.log").read_text()


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


@pytest.mark.slow
def test_a_job_told_to_end_saves_and_goes_on(slurm, settings, uninterrupted, tmp_path):
    job = submit(slurm, tmp_path, **settings)
    wait_for(lambda: 5 in losses(tmp_path), 400, "iteration 5")
    seconds = tell_to_end(slurm, job)
    tracker = tmp_path / "out" / "checkpoints" / "latest_checkpointed_iteration.txt"
    assert int(tracker.read_text()) == max(losses(tmp_path)) < ITERATIONS
    # Slurm lets a job rest for two minutes before it starts again.
    wait_for(lambda: slurm.state(job) == "COMPLETED", 600, "the end")
    done = [iteration for iteration, _ in logged(tmp_path)]
    equal = same_curve(losses(tmp_path), uninterrupted)
    record(
        fault="the time of a Slurm job is nearly up",
        where="one host, TP2, `examples/smollm2_135m/slurm.sbatch`",
        noticed=f"{seconds:.0f} s, saved and queued up again",
        restart="Slurm",
        lost=len(done) - len(set(done)),
        equal=equal,
    )
    assert len(done) == len(set(done))
    assert equal
