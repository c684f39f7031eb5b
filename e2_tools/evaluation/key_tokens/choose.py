# SPDX-License-Identifier: Apache-2.0
"""Which tokens of a text are key: an evaluator model reads it with a long and a short context.

The definition is that of Fang et al. (arXiv 2410.23771): with l(i | b) the loss of token i given
the text from token b on, i is key if l(i | short) - l(i | 0) > gain and l(i | 0) < loss. The short
context of token i begins at d * floor((i - K) / d): it has K to K + d - 1 tokens, and a BOS only
where it begins at 0. The first K tokens are never key.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from e2_common.errors import UserError
from e2_tools.evaluation.perplexity.last_layer import reader_of
from e2_tools.evaluation.perplexity.scoring import TOKENS_PER_BATCH, token_losses


@dataclass(frozen=True)
class Rule:
    """What makes a token key.

    Attributes:
        short_context: K, in tokens.
        short_step: d, tokens that share one short context.
        min_gain: alpha, in nats.
        max_loss: -beta, in nats.
    """

    short_context: int = 4096
    short_step: int = 1024
    min_gain: float = 2.0
    max_loss: float = 2.0


def tokens_to_read(length: int, rule: Rule) -> int:
    """Count the tokens that :func:`key_positions` reads of a text of so many."""
    return length + sum(map(len, _short_windows(torch.arange(length), rule)))


def key_positions(
    model: PreTrainedModel,
    ids: list[int],
    rule: Rule,
    progress: Callable[[int], object] = lambda tokens: None,
) -> list[int]:
    """Return the indices of a text's key tokens.

    Args:
        model: the evaluator.
        ids: of the whole text, a BOS included, [n].
        rule: what makes a token key.
        progress: called with the number of tokens read after each forward pass.

    Raises:
        UserError: a loss is not a number, or the device's memory does not suffice.
    """
    first = rule.short_context
    if len(ids) <= first:
        return []
    read = reader_of(model)
    tokens = torch.tensor(ids, device=model.device)

    def losses(batch: list[torch.Tensor]) -> torch.Tensor:
        found = token_losses(model, read, torch.stack(batch), first - 1)
        progress(sum(map(len, batch)))
        return found

    try:
        long = losses([tokens])
        size = max(1, TOKENS_PER_BATCH // (first + rule.short_step))
        short = torch.cat([losses(batch) for batch in _batches(tokens, rule, size)])
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"--evaluator: the device's memory does not suffice for {len(ids)} tokens; lower "
            "--max-document-tokens or use --dtype bf16"
        ) from error
    if not bool((long + short).isfinite().all()):
        raise UserError("--evaluator: a loss is not finite; check the model, or use --dtype fp32")
    key = (short - long > rule.min_gain) & (long < rule.max_loss)
    return (key.nonzero()[:, 0] + first).tolist()


def _short_windows(tokens: torch.Tensor, rule: Rule) -> Iterator[torch.Tensor]:
    """Windows that score d tokens each behind the short context, the last what is left."""
    for begin in range(0, len(tokens) - rule.short_context, rule.short_step):
        yield tokens[begin : begin + rule.short_context + rule.short_step]


def _batches(tokens: torch.Tensor, rule: Rule, size: int) -> Iterator[list[torch.Tensor]]:
    for _, equal in itertools.groupby(_short_windows(tokens, rule), key=len):
        yield from (list(batch) for batch in itertools.batched(equal, size))
