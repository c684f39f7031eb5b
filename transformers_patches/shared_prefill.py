# SPDX-License-Identifier: Apache-2.0
"""Prompts that begin alike are read once: the keys and values of their beginning are kept.

A key depends on nothing but the tokens up to its own, the weights and the frequencies. So it serves
every prompt that begins with these tokens, as long as the scale stays. What is kept is one prompt's
keys and values, never more. Asked in the order of their tokens, prompts then read each token of
the tree that they form exactly once.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from transformers_patches.continued_attention import continued_attention
from transformers_patches.scale import rotary_modules

# Types of RoPE whose frequencies are the same for every length of text.
FIXED_ROPE = ("default", "linear", "yarn", "llama3")
MASKED = ("sdpa", "eager")  # attentions that take any mask: padding stands behind the beginning
WORTH = 1 / 16  # of a prompt: what a shorter beginning saves, its second pass would cost
DOCUMENT = 0.4  # of a prompt, from where on it counts as the same document: half of it may be cut
CHUNK = 512  # tokens read at once where attention needs a mask [CHUNK, prompt]


class SharedPrefill:
    """What prompts of one model have in common with the last ones.

    The caches that it gives are those of transformers. Models whose layers cannot go back to an
    earlier token (sliding windows, recurrent states), or whose frequencies change with the length,
    are answered without it.
    """

    def __init__(self) -> None:
        self.saved = 0  # tokens that were not read again
        self.clear()

    def clear(self) -> None:
        """Let go of the memory."""
        self._ids: list[int] = []
        self._scale: float | None = None
        self._cache: DynamicCache | None = None

    def cache(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], scale: float | None
    ) -> DynamicCache | None:
        """Return a cache [prompts, ...] that holds the tokens with which all these prompts begin.

        Args:
            model: at that scale; always the same one.
            prompts: token ids; to be answered at once.
            scale: g; None for the model's own RoPE.

        Returns:
            a cache to hand to ``generate``, at least one token shorter than the shortest prompt. It
            may be empty. None where nothing is to be shared.
        """
        if not can_share(model):
            return None
        prompts = [torch.as_tensor(prompt).tolist() for prompt in prompts]
        first, last = min(prompts), max(prompts)  # all others lie between
        ids = first[: min(common(first, last), min(map(len, prompts)) - 1)]
        kept = common(ids, self._ids) if scale == self._scale else 0
        if len(prompts) > 1 and len(ids) < WORTH * len(last):
            return None
        if self._cache is None or kept < WORTH * len(ids):
            self.clear()
            self._cache, self._scale, kept = DynamicCache(config=model.config), scale, 0
            if len(prompts) == 1:  # read at once: nobody knows what the next one begins with
                self._ids = first
                return self._cache
        self._cache.crop(kept - self._cache.get_seq_length())
        self._ids = self._ids[:kept]  # true whatever fails from here on
        self._read(model, ids)
        self.saved += kept
        if len(prompts) == 1:
            self._ids = first
            return self._cache
        self._ids = ids
        self.saved += (len(prompts) - 1) * len(ids)
        cache = copy.copy(self._cache)
        cache.layers = [copy.copy(layer) for layer in self._cache.layers]
        cache.batch_repeat_interleave(len(prompts))
        return cache

    def _read(self, model: PreTrainedModel, ids: list[int]) -> None:
        """Read what the cache lacks of these tokens."""
        have = self._cache.get_seq_length()
        if have == len(ids):
            return
        with continued_attention(model) as unmasked:
            step = len(ids) if unmasked else CHUNK
            for begin in range(have, len(ids), step):
                part = torch.as_tensor(ids[begin : begin + step], device=model.device)
                places = torch.arange(begin, begin + len(part), device=model.device)
                model.base_model(
                    input_ids=part[None],
                    position_ids=places[None],
                    past_key_values=self._cache,
                    use_cache=True,
                )


def can_share(model: PreTrainedModel) -> bool:
    """Whether the keys of a text's beginning are the same, whatever follows, and can be cut."""
    layers = DynamicCache(config=model.config).layers
    return (
        bool(layers)
        and model.config._attn_implementation in MASKED
        and all(type(layer) is DynamicLayer for layer in layers)
        and all(_is_fixed(rotary) for _, rotary in rotary_modules(model))
    )


def _is_fixed(rotary: nn.Module) -> bool:
    kind = getattr(rotary, "rope_type", None)
    if kind == "longrope":  # two lists, by the length; one for all is how a rule may be written
        rope = rotary.config.rope_parameters
        return rope["short_factor"] == rope["long_factor"]
    return isinstance(kind, str) and kind in FIXED_ROPE


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """Return with how many equal tokens two lists begin."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def in_order(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Return the numbers of the prompts in an order in which neighbours share as much as can be."""
    return sorted(range(len(prompts)), key=lambda number: prompts[number])


def in_runs(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the numbers of the prompts in runs about one document, the longest first.

    Neighbours in a run share at least :data:`DOCUMENT` of a prompt.
    """
    runs: list[list[int]] = []
    for number in in_order(prompts):
        ids = prompts[number]
        if runs and common(prompts[runs[-1][-1]], ids) >= DOCUMENT * len(ids):
            runs[-1].append(number)
        else:
            runs.append([number])
    return sorted(runs, key=lambda run: max(len(prompts[number]) for number in run), reverse=True)
