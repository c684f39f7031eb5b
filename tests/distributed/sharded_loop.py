# SPDX-License-Identifier: Apache-2.0
"""Three steps of a plain loop, under torchrun with the model sharded by FSDP2.

    torchrun --nproc-per-node N tests/distributed/sharded_loop.py RESULTS.json

RESULTS.json: the losses, summed over all processes, and the draws of each process.
"""

import json
import sys
from pathlib import Path

import torch
from torch import distributed

from e2_llm.config import E2Config
from e2_llm.sampler import sample_indices
from tests.helpers.families import make_model
from transformers_patches import install

BATCH, LENGTH = 4, 32


def samples(indices):
    generator = torch.Generator()
    return torch.stack(
        [torch.randint(0, 256, (LENGTH,), generator=generator.manual_seed(i)) for i in indices]
    )


def train(rank, world):
    config = E2Config(
        base_window=64,
        train_window=LENGTH,
        max_scale=8,
        frequencies="yarn",
        scale_distribution="log-uniform",
        placement="skips",
        draw_per="sample",
    )
    model = make_model("smollm2").train()
    positions = install(model, config, 5)
    if world > 1:
        from torch.distributed.fsdp import fully_shard

        for layer in model.model.layers:
            fully_shard(layer)
        fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses, drawn, size = [], [], BATCH // world
    for consumed in range(0, 3 * BATCH, BATCH):
        indices = sample_indices(consumed, 0, size, rank, world)
        drawn += positions.set_samples(indices, consumed)
        tokens = samples(indices)
        loss = model(tokens, labels=tokens).loss
        loss.backward()  # FSDP averages gradients over the processes
        optimizer.step()
        optimizer.zero_grad()
        total = loss.detach() / world
        if world > 1:
            distributed.all_reduce(total)
        losses.append(total.item())
    return losses, drawn


def main():
    distributed.init_process_group("gloo")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    losses, drawn = train(rank, world)
    gathered = [None] * world
    distributed.all_gather_object(gathered, drawn)
    if rank == 0:
        Path(sys.argv[1]).write_text(json.dumps([losses, gathered]))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
