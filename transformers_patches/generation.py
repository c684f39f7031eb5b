# SPDX-License-Identifier: Apache-2.0
"""Generation with the RoPE scale chosen for each request, before its prefill.

The cache of a generation holds rotated keys, so the scale of a request is fixed from its first
token on: it has to leave room for the answer too.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from e2_common.errors import UserError
from e2_llm.window import Config, scale_for
from transformers_patches.scale import at_scale
from transformers_patches.shared_prefill import SharedPrefill


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


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    config: Config | None = None,
    scale: str | float = "auto",
    stop: Collection[int] | None = None,
    min_new_tokens: int = 0,
    streamer: Any = None,
    shared: SharedPrefill | None = None,
    **sampling: Any,
) -> list[list[int]]:
    """Continue prompts, greedily unless ``sampling`` says otherwise.

    Prompts of equal scale run as one batch, padded on the left: apart from rounding, each gets
    what it would get alone. Of the model's ``generation_config`` only the stop tokens are used.

    Args:
        model: a causal language model with rotary embeddings; is left as it was.
        prompts: token ids, BOS included where the model wants one.
        max_new_tokens: per prompt.
        config: the dict of the model's ``config.json``; default: of the config that it has.
        scale: ``auto`` for what (prompt + max_new_tokens) / L of each prompt needs,
            ``none`` for the model's own RoPE, or a fixed g.
        stop: token ids that end an answer; by default the model's own.
        min_new_tokens: no stop before so many.
        streamer: of transformers, shown the tokens as they come; for a single prompt.
        shared: keeps what prompts begin with, from one call to the next, so that it is read once;
            answers are the same apart from rounding. Of one model and config; beams do without it.
        sampling: of ``transformers.GenerationConfig``, such as ``do_sample`` and ``temperature``.

    Returns:
        The new token ids of each prompt, in the order given, up to and with the first stop.

    Raises:
        UserError: a prompt is empty, the RoPE cannot be rescaled, or the memory does not suffice.
    """
    if not all(map(len, prompts)):
        raise UserError("a prompt has no tokens; give it some text or a tokenizer with a BOS")
    if sampling.get("num_return_sequences", 1) != 1:
        raise UserError("num_return_sequences: every prompt gets one answer; repeat the prompt")
    config = model.config.to_dict() if config is None else config
    settings = GenerationConfig(
        **{"do_sample": False, "num_beams": 1}
        | sampling
        | {"max_new_tokens": max_new_tokens, "min_new_tokens": min_new_tokens}
    )
    stop = stop_tokens(model) if stop is None else sorted(set(stop))
    settings.eos_token_id = stop or None
    settings.pad_token_id = stop[0] if stop else 0
    groups: dict[float | None, list[int]] = defaultdict(list)
    for number, prompt in enumerate(prompts):
        groups[scale_of_request(config, len(prompt), max_new_tokens, scale)].append(number)
    answers: list[list[int]] = [[] for _ in prompts]
    for group_scale, numbers in groups.items():
        batch = [prompts[number] for number in numbers]
        with at_scale(model, config, group_scale):
            new = _batch(model, batch, settings, streamer, shared, group_scale)
        for number, answer in zip(numbers, new, strict=True):
            answers[number] = _until(answer, stop)
    return answers


def stop_tokens(model: PreTrainedModel) -> list[int]:
    """Return the ids at which the model's own ``generation_config`` (or config) ends a text."""
    stop: Any = model.generation_config.eos_token_id
    if stop is None:
        stop = getattr(model.config, "eos_token_id", None)
    if stop is None:
        return []
    return sorted(stop) if isinstance(stop, (list, tuple)) else [stop]


def _batch(
    model: PreTrainedModel,
    prompts: list[Sequence[int]],
    settings: GenerationConfig,
    streamer: Any,
    shared: SharedPrefill | None,
    scale: float | None,
) -> list[list[int]]:
    longest = max(map(len, prompts))
    failure: torch.OutOfMemoryError
    # If what is shared does not fit beside the batch, the batch may fit alone.
    for kept in dict.fromkeys((shared if settings.num_beams == 1 else None, None)):
        try:
            return _answers(model, prompts, longest, settings, streamer, kept, scale)
        except torch.OutOfMemoryError as error:
            failure = error.with_traceback(None)  # which holds the tensors
    raise UserError(
        f"{len(prompts)} prompts of {longest} tokens: the device's memory does not suffice; "
        "take fewer at once (--batch-size), or bf16 (--dtype bf16)"
    ) from failure


@torch.inference_mode()
def _answers(
    model: PreTrainedModel,
    prompts: list[Sequence[int]],
    longest: int,
    settings: GenerationConfig,
    streamer: Any,
    shared: SharedPrefill | None,
    scale: float | None,
) -> list[list[int]]:
    own = model.generation_config
    model.generation_config = GenerationConfig()  # its repetition penalty and so on would mix in
    try:
        cache = None if shared is None else shared.cache(model, prompts, scale)
        ids, mask = _padded(prompts, longest, 0 if cache is None else cache.get_seq_length())
        output = model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            streamer=streamer,
            generation_config=settings,
            **({} if cache is None else {"past_key_values": cache}),
        )
    except BaseException:
        if shared is not None:
            shared.clear()  # its layers may be of different lengths
        raise
    finally:
        model.generation_config = own
    return output[:, longest:].tolist()


def _padded(
    prompts: list[Sequence[int]], longest: int, shared: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask [prompts, longest], padded behind the tokens that a cache holds already."""
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.ones_like(ids)
    for row, prompt in enumerate(prompts):
        begin = shared + longest - len(prompt)
        ids[row, :shared] = torch.as_tensor(prompt[:shared])
        ids[row, begin:] = torch.as_tensor(prompt[shared:])
        mask[row, shared:begin] = 0
    return ids, mask


def _until(ids: list[int], stop: list[int]) -> list[int]:
    """Cut behind the first stop: what follows is padding."""
    end = next((number for number, token in enumerate(ids, 1) if token in stop), len(ids))
    return ids[:end]
