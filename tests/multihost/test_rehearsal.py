# SPDX-License-Identifier: Apache-2.0
"""Training across two hosts: TP2 within a host, PP2 across, with checkpoints."""

import os
import re
import signal
import subprocess
import sys

import pytest

from tests.distributed.corpus import make_corpus
from tests.distributed.world import ROOT, TINY_MODEL, TINY_TRAINING
from tests.multihost.hosts import finish, losses, missing, same_curve, two_hosts, wait_for

REASON = missing()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(600),
]
LAYOUT = ["--tensor-model-parallel-size", "2", "--pipeline-model-parallel-size", "2"]
ITERATIONS = 10
LIMIT = 240  # seconds that a whole run may take


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return [*TINY_MODEL, *TINY_TRAINING, *LAYOUT, *make_corpus(folder)]


@pytest.fixture(scope="module")
def uninterrupted(command, tmp_path_factory):
    """The losses of the same four ranks on one host."""
    folder = tmp_path_factory.mktemp("one_host")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    with (folder / "host.log").open("w") as log:
        subprocess.run(
            [sys.executable, *torchrun, "pretrain_e2.py", *command],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            timeout=LIMIT,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    found = losses(folder)
    assert sorted(found) == list(range(1, ITERATIONS + 1))
    return found


@pytest.fixture
def hosts():
    with two_hosts() as pair:
        yield pair


def saving(command, folder):
    folder = str(folder / "checkpoints")
    return [*command, "--save", folder, "--load", folder, "--save-interval", "2"]


def logs(folder):
    return "".join(path.read_text(errors="replace")[-3000:] for path in folder.glob("host*.log"))


def test_two_hosts_train_as_one(hosts, command, uninterrupted, tmp_path):
    argv = saving(command, tmp_path)
    running = [host.start(tmp_path, argv) for host in hosts]
    assert finish(running, LIMIT) == [0, 0], logs(tmp_path)
    assert same_curve(losses(tmp_path), uninterrupted)
    tracker = tmp_path / "checkpoints" / "latest_checkpointed_iteration.txt"
    assert tracker.read_text() == str(ITERATIONS)


@pytest.mark.slow
def test_a_killed_rank_is_restarted_by_torchrun(hosts, command, uninterrupted, tmp_path):
    argv = saving(command, tmp_path)
    running = [host.start(tmp_path, argv, "--max-restarts", "3") for host in hosts]
    wait_for(lambda: 5 in losses(tmp_path), LIMIT, "iteration 5")
    os.kill(hosts[1].ranks()[1], signal.SIGKILL)
    assert finish(running, LIMIT) == [0, 0], logs(tmp_path)
    assert same_curve(losses(tmp_path), uninterrupted)
    log = (tmp_path / "host0.log").read_text()
    assert re.search(r"successfully loaded checkpoint .* at iteration [4-8]", log)


@pytest.mark.slow
def test_a_host_that_dies_ends_the_other_and_the_job_goes_on_by_hand(
    hosts, command, uninterrupted, tmp_path
):
    argv = saving(command, tmp_path)
    running = [host.start(tmp_path, argv) for host in hosts]
    wait_for(lambda: 5 in losses(tmp_path), LIMIT, "iteration 5")
    hosts[1].kill()
    # The survivor says so within Megatron's time-out of 2 minutes, and does not hang.
    codes = finish(running, 150)
    assert all(codes)
    running = [host.start(tmp_path, argv) for host in hosts]
    assert finish(running, LIMIT) == [0, 0], logs(tmp_path)
    assert same_curve(losses(tmp_path), uninterrupted)
