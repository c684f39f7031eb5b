# SPDX-License-Identifier: Apache-2.0
"""Causal attention on CPUs as matrix products over blocks of queries.

torch's kernel for CPUs reaches a fifth of the speed of a bf16 product. Here a block of queries is
multiplied with all keys up to its end, so that everything but the softmax is a batch of products.
The scores of one block are all that is kept of size s x s; the backward pass makes them again.

b: samples, n: query heads, g: their key/value groups, q: queries, s: keys, d: channels of a head.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 128  # queries; larger ones multiply more scores that are forbidden


def causal_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attend; the queries are those of the last q of the s tokens.

    Scores are rounded to the type of the input before the softmax, as in Megatron's own attention.
    The softmax is computed in fp32, and the gradients of keys and values are summed in it.

    Args:
        query: [b, n, q, d].
        key: [b, g, s, d]; n is a multiple of g, and s at least q.
        value: [b, g, s, d].
        scale: of the scores.

    Returns:
        [b, n, q, d].
    """
    return _CausalAttention.apply(query, key, value, scale)


class _Block:
    """A block of queries: the rows ``begin`` to ``end`` of q, which see the first ``seen`` keys."""

    def __init__(self, begin: int, end: int, before: int) -> None:
        self.begin, self.end, self.seen = begin, end, before + end

    def rows(self, states: Tensor) -> Tensor:
        """Its part of [b * g, n / g, q, d], as [b * g, n / g * rows, d]."""
        return states[:, :, self.begin : self.end].flatten(1, 2)

    def probabilities(self, query: Tensor, key: Tensor) -> Tensor:
        """The softmax of the scores, [b * g, n / g * rows, seen].

        Args:
            query: rows, scaled.
            key: [b * g, s, d].
        """
        scores = torch.bmm(query, key[:, : self.seen].transpose(1, 2))
        rows = self.end - self.begin
        # Among the last keys it sees are those of its own queries.
        own = scores.unflatten(1, (-1, rows))[..., self.seen - rows :]
        own += torch.full((rows, rows), -torch.inf, dtype=scores.dtype).triu_(1)
        return torch.softmax(scores, dim=-1)


def _blocks(queries: int, keys: int) -> Iterator[_Block]:
    for begin in range(0, queries, BLOCK):
        yield _Block(begin, min(begin + BLOCK, queries), keys - queries)


class _CausalAttention(torch.autograd.Function):
    """:func:`causal_attention`, whose backward pass makes the scores again."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.scale = scale
        grouped, keys, values = (
            _grouped(query, key.shape[1]),
            key.flatten(0, 1),
            value.flatten(0, 1),
        )
        outputs = []
        for block in _blocks(query.shape[2], key.shape[2]):
            weights = block.probabilities(block.rows(grouped) * scale, keys)
            context = torch.bmm(weights, values[:, : block.seen])
            outputs.append(context.unflatten(1, (grouped.shape[1], -1)))
        return torch.cat(outputs, dim=2).view_as(query)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value = ctx.saved_tensors
        grouped, keys, values = (
            _grouped(query, key.shape[1]),
            key.flatten(0, 1),
            value.flatten(0, 1),
        )
        gradient = _grouped(gradient, key.shape[1])
        of_queries = []
        exact = torch.promote_types(keys.dtype, torch.float32)
        of_keys, of_values = (torch.zeros(keys.shape, dtype=exact) for _ in range(2))
        for block in _blocks(query.shape[2], key.shape[2]):
            rows, arriving = block.rows(grouped) * ctx.scale, block.rows(gradient)
            weights = block.probabilities(rows, keys)
            of_values[:, : block.seen] += torch.bmm(weights.transpose(1, 2), arriving)
            of_weights = torch.bmm(arriving, values[:, : block.seen].transpose(1, 2))
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_keys[:, : block.seen] += torch.bmm(of_scores.transpose(1, 2), rows)
            of_rows = torch.bmm(of_scores, keys[:, : block.seen]) * ctx.scale
            of_queries.append(of_rows.unflatten(1, (grouped.shape[1], -1)))
        return (
            torch.cat(of_queries, dim=2).view_as(query),
            of_keys.to(key.dtype).view_as(key),
            of_values.to(value.dtype).view_as(value),
            None,
        )


def _grouped(states: Tensor, groups: int) -> Tensor:
    """[b, n, q, d] as [b * g, n / g, q, d]."""
    return states.unflatten(1, (groups, -1)).flatten(0, 1)
