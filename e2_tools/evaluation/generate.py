# SPDX-License-Identifier: Apache-2.0
"""Greedy generation with the RoPE scale chosen for each request, before its prefill.

The cache of a generation holds rotated keys, so the scale of a request is fixed from its first
token on: it has to leave room for the answer too.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from e2_common.errors import UserError
from e2_llm.window import Config, base_window, scale_for
from e2_tools.evaluation.model import set_scale


def scale_of_request(
    config: Config, prompt_tokens: int, max_new_tokens: int, scale: str | float
) -> float | None:
    """Return the scale that a request is served at; None for the model's own RoPE.

    Args:
        config: the dict of the model's ``config.json``.
        prompt_tokens: of the request.
        max_new_tokens: that may follow.
        scale: ``auto``, ``none`` or a fixed g.

    Raises:
        UserError: the model's RoPE cannot be rescaled, yet ``scale`` is not ``none``.
    """
    if scale == "none":
        return None
    needed = scale_for(config, prompt_tokens + max_new_tokens)  # also refuses some RoPEs
    return needed if scale == "auto" else float(scale)


def use_scale(model: PreTrainedModel, config: Config, scale: float | None) -> None:
    """Serve a request at the scale that :func:`scale_of_request` gave, from its prefill on.

    Args:
        model: from :func:`e2_tools.evaluation.model.load_model`.
        config: the dict of its ``config.json``.
        scale: g; None leaves the model as it is.
    """
    if scale is not None:
        window = math.ceil(scale * base_window(config))
        set_scale(model, config, scale, window)
        model.config.max_position_embeddings = window  # else transformers warns beyond L


def generate(
    model: PreTrainedModel,
    config: Config,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    scale: str | float = "auto",
    stop: Collection[int] | None = None,
    min_new_tokens: int = 0,
    streamer: Any = None,
) -> list[list[int]]:
    """Continue prompts greedily.

    Prompts of equal scale run as one batch, padded on the left: apart from rounding, each gets
    what it would get alone. Of the model's ``generation_config`` only the stop tokens are used.

    Args:
        model: from :func:`e2_tools.evaluation.model.load_model`; is left at the last scale used.
        config: the dict of its ``config.json``.
        prompts: token ids, BOS included where the model wants one.
        max_new_tokens: per prompt.
        scale: ``auto`` for what (prompt + max_new_tokens) / L of each prompt needs,
            ``none`` for the model's own RoPE, or a fixed g.
        stop: token ids that end an answer; by default the model's own.
        min_new_tokens: no stop before so many.
        streamer: of transformers, shown the tokens as they come; for a single prompt.

    Returns:
        the new token ids of each prompt, in the order given, up to and with the first stop.

    Raises:
        UserError: a prompt is empty, the RoPE cannot be rescaled, or the memory does not suffice.
    """
    if not all(prompts):
        raise UserError("a prompt has no tokens; give it some text or a tokenizer with a BOS")
    stop = stop_tokens(model) if stop is None else sorted(set(stop))
    groups: dict[float | None, list[int]] = defaultdict(list)
    for number, prompt in enumerate(prompts):
        groups[scale_of_request(config, len(prompt), max_new_tokens, scale)].append(number)
    answers: list[list[int]] = [[] for _ in prompts]
    for group_scale, numbers in groups.items():
        use_scale(model, config, group_scale)
        batch = [prompts[number] for number in numbers]
        new = _greedy(model, batch, max_new_tokens, min_new_tokens, stop, streamer)
        for number, answer in zip(numbers, new, strict=True):
            answers[number] = answer
    return answers


def stop_tokens(model: PreTrainedModel) -> list[int]:
    """Return the ids at which the model's own ``generation_config`` (or config) ends a text."""
    stop: Any = model.generation_config.eos_token_id
    if stop is None:
        stop = getattr(model.config, "eos_token_id", None)
    if stop is None:
        return []
    return sorted(stop) if isinstance(stop, (list, tuple)) else [stop]


@torch.inference_mode()
def _greedy(
    model: PreTrainedModel,
    prompts: list[Sequence[int]],
    max_new_tokens: int,
    min_new_tokens: int,
    stop: list[int],
    streamer: Any,
) -> list[list[int]]:
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    own = model.generation_config
    model.generation_config = GenerationConfig()  # its repetition penalty and so on would mix in
    try:
        output = model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            streamer=streamer,
            generation_config=GenerationConfig(
                do_sample=False,
                num_beams=1,
                max_new_tokens=max_new_tokens,
                min_new_tokens=min_new_tokens,
                eos_token_id=stop or None,
                pad_token_id=stop[0] if stop else 0,
            ),
        )
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{len(prompts)} prompts of {longest} tokens: the device's memory does not suffice; "
            "lower --batch-size or use --dtype bf16"
        ) from error
    finally:
        model.generation_config = own
    return [_until(row, stop) for row in output[:, longest:].tolist()]


def _until(ids: list[int], stop: list[int]) -> list[int]:
    """Cut behind the first stop: what follows is padding."""
    end = next((number for number, token in enumerate(ids, 1) if token in stop), len(ids))
    return ids[:end]
