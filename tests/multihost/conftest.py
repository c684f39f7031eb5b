# SPDX-License-Identifier: Apache-2.0
"""What the rehearsal and the faults share: a command line and the curve without a fault."""

import pytest

from tests.distributed.corpus import make_corpus
from tests.distributed.world import LOADING_ALONE, TINY_MODEL, TINY_TRAINING
from tests.helpers.quick_python import quick_python
from tests.multihost.hosts import finish, logs, losses, one_host, two_hosts

LAYOUT = ["--tensor-model-parallel-size", "2", "--pipeline-model-parallel-size", "2"]
ITERATIONS = 16
LIMIT = 300  # seconds that a whole run may take


@pytest.fixture(scope="session")
def command(tmp_path_factory):
    """TP2 within a host, PP2 across."""
    training = [*TINY_TRAINING, "--train-iters", str(ITERATIONS)]
    return [*TINY_MODEL, *training, *LAYOUT, *make_corpus(tmp_path_factory.mktemp("corpus"))]


def on_one_host(folder, ranks, argv):
    """The losses of a run without a fault."""
    with one_host(ranks) as machine:
        machine.python = quick_python()
        assert finish([machine.start(folder, [*argv, *LOADING_ALONE])], LIMIT) == [0], logs(folder)
    found = losses(folder)
    assert sorted(found) == list(range(1, ITERATIONS + 1))
    return found


@pytest.fixture(scope="session")
def uninterrupted(command, tmp_path_factory):
    """The losses of the same four ranks on one host."""
    return on_one_host(tmp_path_factory.mktemp("one_host"), 4, command)


@pytest.fixture
def hosts():
    with two_hosts() as pair:
        yield pair


def saving(command, folder):
    """Let a command save every second iteration and go on from there."""
    folder = str(folder / "checkpoints")
    return [*command, "--save", folder, "--load", folder, "--save-interval", "2"]
