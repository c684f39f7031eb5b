# SPDX-License-Identifier: Apache-2.0
"""FSDP2 shards a model that takes draws, and it learns what one process does."""

import json

import pytest

from tests.distributed.sharded_loop import train
from tests.helpers.commands import run_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_a_sharded_model_draws_and_learns_the_same(tmp_path):
    expected, drawn = train(0, 1)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    run_command(*words, "tests/distributed/sharded_loop.py", tmp_path / "out.json", timeout=300)
    losses, gathered = json.loads((tmp_path / "out.json").read_text())
    assert losses == pytest.approx(expected, abs=1e-4)
    first, second = ([tuple(draw) for draw in draws] for draws in gathered)
    steps = range(0, 12, 4)
    assert [tuple(draw) for draw in drawn] == [
        draw
        for step in steps
        for half in (first, second)
        for draw in half[step // 2 : step // 2 + 2]
    ]
    assert len(set(expected)) == 3
