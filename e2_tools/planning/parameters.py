# SPDX-License-Identifier: Apache-2.0
"""Which parameters a rank holds, and their place in Megatron's buffers, to the element.

Sizes: h hidden, f feed-forward, n heads, k groups, d head size, v the padded vocabulary.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from e2_tools.planning.models import Model
from e2_tools.planning.run import Run

PARAMETER_ALIGNMENT = 64  # elements; megatron.core.optimizer.param_layout
BUCKET_ALIGNMENT = 128  # and the number of shards


@dataclass(frozen=True)
class Parameter:
    """One tensor: its elements on a rank, and whether it is an embedding that two stages share."""

    elements: int
    shared: bool = False


def chunks(model: Model, run: Run, stage: int) -> list[list[Parameter]]:
    """The parameters of each model chunk of a pipeline stage, in ``named_parameters``' order.

    Args:
        model: with padded vocabulary.
        run: the layout counts.
        stage: of the pipeline, from 0.
    """
    layout, sizes = run.layout, model.sizes
    stages, virtual = layout.pipeline, layout.virtual
    embedding = sizes.padded_vocab * sizes.hidden // layout.tensor
    tied_apart = sizes.tied and stages > 1
    result = []
    for chunk in range(virtual):
        first = stage == 0 and chunk == 0
        last = stage == stages - 1 and chunk == virtual - 1
        parameters = [Parameter(embedding, tied_apart)] if first else []
        parameters += list(_layer(model, layout.tensor)) * (sizes.layers // (stages * virtual))
        if last:
            parameters.append(Parameter(sizes.hidden))  # the final norm
        if last and not (sizes.tied and stages == 1):
            parameters.append(Parameter(embedding, tied_apart))
        result.append(parameters)
    return result


def _layer(model: Model, tensor: int) -> Iterator[Parameter]:
    sizes = model.sizes
    query = sizes.heads * sizes.head_dim // tensor
    fused = query + 2 * sizes.groups * sizes.head_dim // tensor
    yield Parameter(sizes.hidden)  # norm
    yield Parameter(query * sizes.hidden)  # output projection
    yield Parameter(fused * sizes.hidden)
    if model.qkv_bias:
        yield Parameter(fused)
    if model.qk_norm:
        yield Parameter(sizes.head_dim)
        yield Parameter(sizes.head_dim)
    yield Parameter(sizes.hidden)  # norm
    yield Parameter(2 * sizes.ffn * sizes.hidden // tensor)  # gate and up
    yield Parameter(sizes.ffn * sizes.hidden // tensor)  # down


def count(parameters: list[Parameter]) -> int:
    """Elements of them all."""
    return sum(parameter.elements for parameter in parameters)


@dataclass(frozen=True)
class Buffer:
    """One of Megatron's contiguous buffers.

    Attributes:
        elements: padding included.
        owned: elements of parameters, padding excluded, by rank of the shard group.
    """

    elements: int
    owned: tuple[int, ...]


def buffer(parameters: list[Parameter], shards: int, aligned: bool) -> Buffer:
    """Lay a chunk's parameters out as Megatron does: last first, aligned for the shards.

    Without ``--overlap-grad-reduce`` there is one bucket; a shared embedding has its own.

    Args:
        parameters: of the chunk.
        shards: ranks among which each bucket is cut.
        aligned: whether the distributed optimizer pads.
    """
    if not aligned:
        return Buffer(count(parameters), (count(parameters),))
    owned = [0] * shards
    begin = position = 0
    held: list[tuple[int, int]] = []

    def close(end: int) -> int:
        multiple = math.lcm(shards, BUCKET_ALIGNMENT)
        padded = math.ceil(end / multiple) * multiple
        share = (padded - begin) // shards
        for rank in range(shards):
            low, high = begin + rank * share, begin + (rank + 1) * share
            owned[rank] += sum(max(0, min(high, to) - max(low, at)) for at, to in held)
        held.clear()
        return padded

    for parameter in reversed(parameters):
        position = math.ceil(position / PARAMETER_ALIGNMENT) * PARAMETER_ALIGNMENT
        if parameter.shared and held:
            begin = position = close(position)
        held.append((position, position + parameter.elements))
        position += parameter.elements
        if parameter.shared:
            begin = position = close(position)
    if held:
        position = close(position)
    return Buffer(position, tuple(owned))
