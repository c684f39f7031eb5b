# SPDX-License-Identifier: Apache-2.0
"""Greedy generation that keeps the attention of each generated token over the input, row by row.

A prompt of s tokens is read in chunks with sdpa, so that nothing of size s x s is made. From then
on every step has one query; its weights softmax(q K^T / sqrt(d)) over the cached keys are a row.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from e2_common.errors import UserError

CHUNK = 1024  # tokens of the prompt in a forward pass: its mask has CHUNK x s elements
NAME = "sdpa_with_rows"


@torch.inference_mode()
def generate_with_rows(
    model: PreTrainedModel,
    prompt: Sequence[int],
    max_new_tokens: int,
    layers: Sequence[int],
    heads: Sequence[int] | None = None,
    *,
    stop: Collection[int] = (),
    given: Sequence[int] = (),
    chunk: int = CHUNK,
    progress: Callable[[int], object] = lambda tokens: None,
) -> tuple[list[int], torch.Tensor]:
    """Continue a prompt greedily and keep what its tokens attend to.

    The row of a generated token is that of the query that predicts it: the prompt's last token for
    the first one, then the generated token before.

    Args:
        model: from :func:`e2_tools.evaluation.model.load_model`, at the scale of the whole request.
        prompt: token ids.
        max_new_tokens: at most so many.
        layers: from 0.
        heads: query heads to average over, from 0; by default all.
        stop: token ids that end the answer.
        given: token ids to go on with, ``max_new_tokens`` of them, in place of the model's own.
        chunk: tokens of the prompt in a forward pass.
        progress: called with the number of tokens read or written.

    Returns:
        the new ids, the first stop included, and weights [layers, generated, input + generated - 1]
        in fp32 on the CPU. Every row sums to 1; it is 0 at tokens that were not there yet.

    Raises:
        UserError: the device's memory does not suffice.
    """
    cache = DynamicCache(config=model.config)
    ids = torch.tensor([list(prompt)], device=model.device)
    answer: list[int] = []
    rows: list[torch.Tensor] = []
    try:
        for part in ids[:, :-1].split(chunk, dim=1):
            if part.shape[1]:
                model.base_model(input_ids=part, past_key_values=cache, use_cache=True)
                progress(part.shape[1])
        token = ids[:, -1:]
        with _weights_of(model, layers, heads) as weights:
            while len(answer) < max_new_tokens:
                weights.clear()
                logits = model(input_ids=token, past_key_values=cache, use_cache=True).logits
                rows.append(torch.stack([weights[layer] for layer in layers]))
                token = logits[:, -1:].argmax(-1)  # [1, 1]
                if given:
                    token.fill_(given[len(answer)])
                answer.append(int(token))
                progress(1)
                if answer[-1] in stop:
                    break
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"a prompt of {len(prompt)} tokens: the device's memory does not suffice; use smaller "
            "--windows or --dtype bf16"
        ) from error
    longest = rows[-1].shape[1]
    rows = [functional.pad(row, (0, longest - row.shape[1])) for row in rows]
    return answer, torch.stack(rows, dim=1)


@contextlib.contextmanager
def _weights_of(
    model: PreTrainedModel, layers: Sequence[int], heads: Sequence[int] | None
) -> Iterator[dict[int, torch.Tensor]]:
    """Yield a dict that each forward pass of one token fills: layer -> weights [keys]."""
    found: dict[int, torch.Tensor] = {}

    def attention(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **options: object,
    ) -> tuple[torch.Tensor, None]:
        if module.layer_idx in layers:
            weights = row_weights(query, key, attention_mask, options["scaling"])  # [heads, keys]
            chosen = weights if heads is None else weights[list(heads)]
            found[module.layer_idx] = chosen.mean(0).cpu()
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)

    before = model.config._attn_implementation
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    try:
        yield found
    finally:
        model.set_attn_implementation(before)


def row_weights(
    query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    """Return the weights [query heads, keys] of one query, in fp32.

    Args:
        query: [1, query heads, 1, d], rotated.
        key: [1, key heads, keys, d], rotated; each serves query heads / key heads in a row.
        mask: None, or [1, 1, 1, keys], of booleans or to be added.
        scaling: of the scores, 1 / sqrt(d).
    """
    groups = key.shape[1]
    query = query[0, :, 0].reshape(groups, -1, query.shape[-1]).float()  # [groups, share, d]
    scores = scaling * (query @ key[0].float().transpose(1, 2))  # [groups, share, keys]
    if mask is not None:
        row = mask[0, 0, 0, : key.shape[2]]
        scores = scores.masked_fill(~row, -torch.inf) if row.dtype == torch.bool else scores + row
    return scores.softmax(-1).flatten(0, 1)
