# SPDX-License-Identifier: Apache-2.0
"""Causal attention on CPUs as matrix products over blocks of queries.

torch's kernel for CPUs reaches a fifth of the speed of a bf16 product. Here a block of queries is
multiplied with the keys up to its end, so that everything but the softmax is a batch of products.
The scores of one block are all that is kept of size s x s; the backward pass makes them again.

b: samples, n: query heads, g: their key/value groups, q: queries, s: keys, d: channels of a head.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 128  # queries; larger ones multiply more scores that are forbidden
SHAPES = 16  # about so many widths have the blocks of a long text


def causal_attention(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
    """Attend; the queries are those of the last q of the s tokens.

    Scores are rounded to the type of the input before the softmax, as in Megatron's own attention.
    The softmax is computed in fp32, and the gradients of keys and values are summed in it.

    Args:
        query: [b, n, q, d].
        key: [b, g, s, d]; n is a multiple of g, and s at least q.
        value: [b, g, s, d].
        scale: of the scores; None for 1 / sqrt(d).

    Returns:
        [b, n, q, d].
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return _CausalAttention.apply(query, key, value, scale)


class _Buffer:
    """Room for the scores of any block: sizes that change from block to block tear up the heap."""

    def __init__(self, like: Tensor, rows: int, keys: int) -> None:
        self.room = like.new_empty(like.shape[0] * rows * keys)

    def of(self, *shape: int) -> Tensor:
        """The beginning of the room, in a shape."""
        return self.room[: math.prod(shape)].view(shape)


class _Block:
    """A block of queries: the rows ``begin`` to ``end`` of q, and the first ``width`` keys.

    Keys that lie behind the queries are forbidden like those within: a product of a new shape costs
    memory and time once, so that blocks share shapes.
    """

    def __init__(self, begin: int, end: int, before: int, width: int) -> None:
        self.begin, self.end, self.before, self.width = begin, end, before, width

    def rows(self, states: Tensor) -> Tensor:
        """Its part of [b * g, n / g, q, d], as [b * g, n / g * rows, d]."""
        return states[:, :, self.begin : self.end].flatten(1, 2)

    def probabilities(self, query: Tensor, key: Tensor, made: _Buffer, kept: _Buffer) -> Tensor:
        """The softmax of the scores, [b * g, n / g * rows, width].

        Args:
            query: rows, scaled.
            key: [b * g, s, d].
            made: room for the scores.
            kept: room for the result.
        """
        shape = *query.shape[:2], self.width
        keys = key[:, : self.width].transpose(1, 2)
        scores = torch.bmm(query, keys, out=made.of(*shape))
        rows, first = self.end - self.begin, self.before + self.begin
        own = scores.unflatten(1, (-1, rows))[..., first:]
        own += torch.full(own.shape[-2:], -torch.inf, dtype=scores.dtype).triu_(1)
        return torch.softmax(scores, dim=-1, out=kept.of(*shape))


def _blocks(queries: int, keys: int) -> Iterator[_Block]:
    step = BLOCK * max(1, keys // (BLOCK * SHAPES))
    before = keys - queries
    for begin in range(0, queries, BLOCK):
        end = min(begin + BLOCK, queries)
        width = min(-(-(before + end) // step) * step, keys)
        yield _Block(begin, end, before, width)


class _CausalAttention(torch.autograd.Function):
    """:func:`causal_attention`, whose backward pass makes the scores again."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.scale = scale
        grouped, keys, values = _arranged(query, key, value)
        made, kept = _buffers(grouped, keys)
        output = torch.empty_like(grouped)
        for block in _blocks(query.shape[2], key.shape[2]):
            weights = block.probabilities(block.rows(grouped) * scale, keys, made, kept)
            context = torch.bmm(weights, values[:, : block.width])
            output[:, :, block.begin : block.end] = context.unflatten(1, (grouped.shape[1], -1))
        return output.view_as(query)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value = ctx.saved_tensors
        grouped, keys, values = _arranged(query, key, value)
        gradient = _grouped(gradient, key.shape[1])
        made, kept = _buffers(grouped, keys)
        of_queries = torch.empty_like(grouped)
        exact = torch.promote_types(keys.dtype, torch.float32)
        of_keys, of_values = (torch.zeros(keys.shape, dtype=exact) for _ in range(2))
        for block in _blocks(query.shape[2], key.shape[2]):
            rows, arriving = block.rows(grouped) * ctx.scale, block.rows(gradient)
            weights = block.probabilities(rows, keys, made, kept)
            of_values[:, : block.width] += torch.bmm(weights.transpose(1, 2), arriving)
            behind = values[:, : block.width].transpose(1, 2)
            of_weights = torch.bmm(arriving, behind, out=made.of(*weights.shape))
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_keys[:, : block.width] += torch.bmm(of_scores.transpose(1, 2), rows)
            of_rows = torch.bmm(of_scores, keys[:, : block.width]) * ctx.scale
            of_queries[:, :, block.begin : block.end] = of_rows.unflatten(1, (grouped.shape[1], -1))
        return (
            of_queries.view_as(query),
            of_keys.to(key.dtype).view_as(key),
            of_values.to(value.dtype).view_as(value),
            None,
        )


def _arranged(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [b * g, n / g, q, d], keys and values [b * g, s, d], contiguous."""
    return (
        _grouped(query, key.shape[1]),
        key.flatten(0, 1).contiguous(),
        value.flatten(0, 1).contiguous(),
    )


def _grouped(states: Tensor, groups: int) -> Tensor:
    """[b, n, q, d] as [b * g, n / g, q, d], contiguous."""
    return states.unflatten(1, (groups, -1)).flatten(0, 1).contiguous()


def _buffers(grouped: Tensor, keys: Tensor) -> tuple[_Buffer, _Buffer]:
    """Two for the queries [b * g, n / g, q, d] and the keys [b * g, s, d]."""
    rows = grouped.shape[1] * min(BLOCK, grouped.shape[2])
    return tuple(_Buffer(grouped, rows, keys.shape[1]) for _ in range(2))
