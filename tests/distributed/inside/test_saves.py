# SPDX-License-Identifier: Apache-2.0
"""A save that is waited for needs no other process; one that is not has one for its results."""

import multiprocessing

import torch
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy


def state(rank):
    values = torch.arange(4.0) + 10 * rank
    return {"x": dist_checkpointing.ShardedTensor.from_rank_offsets("x", values, (0, rank, 2))}


def processes_of(save):
    """What the save has started and left, by name; they are ended."""
    before = set(multiprocessing.active_children())
    save()
    new = set(multiprocessing.active_children()) - before
    for process in new:
        process.kill()
    return [process.name for process in new]


def test_a_save_that_is_waited_for_starts_no_process(model_parallel, folder):
    rank = torch.distributed.get_rank()
    assert processes_of(lambda: dist_checkpointing.save(state(rank), folder)) == []
    found = dist_checkpointing.load(state(rank), folder)
    assert torch.equal(found["x"], torch.arange(4.0) + 10 * rank)


def test_results_of_another_save_come_from_another_process(model_parallel, folder, monkeypatch):
    monkeypatch.setattr(filesystem_async, "_results_queue", None)
    rank = torch.distributed.get_rank()
    strategy = TorchDistSaveShardedStrategy()
    requests = []

    def save():
        requests.append(strategy.async_save(state(rank), folder, async_strategy="mcore"))
        requests[0].execute_sync()

    assert len(processes_of(save)) == 1
