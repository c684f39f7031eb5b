# SPDX-License-Identifier: Apache-2.0
"""The last hidden states of a sequence's end, without the last layer's work for its beginning.

Of the positions before the scored ones the last decoder layer owes nothing but their keys and
values: no query, no attention, no feed-forward network. This is not an approximation.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel

from e2_tools.evaluation.model import hidden_states

MASK_AT_ONCE = 2**24  # elements; the queries are taken in parts whose mask has no more
PROBE = 8  # tokens to compare both ways on
PROBE_TOLERANCE = 0.02  # relative, of the states' norm: bf16's rounding, far below any real mistake


Reader = Callable[[torch.Tensor, int], torch.Tensor]


def reader_of(model: PreTrainedModel) -> Reader:
    """Return how to read the end of a sequence: (input_ids, start) -> as :func:`last_states`.

    A model whose layers are of another kind is run whole.
    """
    if has_usual_last_layer(model):
        return functools.partial(last_states, model)
    return lambda input_ids, start: hidden_states(model, input_ids)[:, start:]


def last_states(model: PreTrainedModel, input_ids: torch.Tensor, start: int) -> torch.Tensor:
    """Return the last hidden states [batch, length - start, hidden] of positions >= ``start``.

    Args:
        model: one for which :func:`has_usual_last_layer` holds.
        input_ids: [batch, length].
        start: 0 <= start < length.
    """
    if start == 0:
        return hidden_states(model, input_ids)
    with _only_from(start, model.base_model.layers[-1]):
        return hidden_states(model, input_ids)


@torch.inference_mode()
def has_usual_last_layer(model: PreTrainedModel) -> bool:
    """Whether :func:`last_states` gives what the whole model gives, found out by trying it."""
    if not isinstance(getattr(model.base_model, "layers", None), nn.ModuleList):
        return False
    ids = torch.arange(PROBE, device=model.device)[None]
    ids %= model.get_input_embeddings().weight.shape[0]
    whole = hidden_states(model, ids)[:, PROBE // 2 :].float()
    try:
        part = last_states(model, ids, PROBE // 2).float()
    except Exception:  # another family's layer may raise anything
        return False
    return part.shape == whole.shape and bool(
        (part - whole).norm() <= PROBE_TOLERANCE * whole.norm()
    )


class _KeysOnlyError(Exception):
    """The keys and values are in the cache; the rest of the layer is not wanted."""


class _Keys(DynamicCache):
    """A cache that ends a layer's forward pass once it has got its first keys and values."""

    filled = False

    def update(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        found = super().update(*args, **kwargs)
        if not self.filled:
            self.filled = True
            raise _KeysOnlyError
        return found


@contextlib.contextmanager
def _only_from(start: int, layer: nn.Module) -> Iterator[None]:
    """Let ``layer`` return the positions from ``start`` on and compute no more than these need."""
    whole = layer.forward

    def forward(hidden: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        length = hidden.shape[1]
        kwargs |= {"past_key_values": _Keys(), "use_cache": True}

        def run(begin: int, end: int) -> torch.Tensor:
            return whole(hidden[:, begin:end], **_cut(kwargs, begin, end, hidden.device))

        with contextlib.suppress(_KeysOnlyError):
            run(0, start)
        step = max(1, MASK_AT_ONCE // length)
        parts = [run(row, min(row + step, length)) for row in range(start, length, step)]
        return torch.cat(parts, dim=1)

    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward


def _cut(kwargs: dict[str, Any], begin: int, end: int, device: torch.device) -> dict[str, Any]:
    """The arguments of a decoder layer for its positions from ``begin`` to ``end``."""
    rows = slice(begin, end)
    cut = dict(kwargs)
    cut["position_embeddings"] = tuple(each[:, rows] for each in kwargs["position_embeddings"])
    if (positions := kwargs.get("position_ids")) is not None:
        cut["position_ids"] = positions[..., rows]
    mask = kwargs.get("attention_mask")  # [batch, 1, length, length], None for a causal one
    if mask is not None:
        cut["attention_mask"] = mask[..., rows, :end]
    elif begin:  # sdpa's own causal mask lets the first query see the first key only
        keys = torch.arange(end, device=device)
        cut["attention_mask"] = (keys <= keys[begin:, None])[None, None]
    return cut
