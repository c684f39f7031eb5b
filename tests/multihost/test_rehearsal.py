# SPDX-License-Identifier: Apache-2.0
"""Training across two hosts: TP2 within a host, PP2 across, with checkpoints."""

import pytest

from tests.distributed.world import LOADING_ALONE
from tests.multihost.conftest import ITERATIONS, LIMIT, saving
from tests.multihost.hosts import finish, logs, losses, missing, same_curve

REASON = missing()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(2 * LIMIT),
]


def test_two_hosts_train_as_one(hosts, command, uninterrupted, tmp_path):
    argv = [*saving(command, tmp_path), *LOADING_ALONE]
    running = [host.start(tmp_path, argv) for host in hosts]
    assert finish(running, LIMIT) == [0, 0], logs(tmp_path)
    assert same_curve(losses(tmp_path), uninterrupted)
    tracker = tmp_path / "checkpoints" / "latest_checkpointed_iteration.txt"
    assert tracker.read_text() == str(ITERATIONS)
