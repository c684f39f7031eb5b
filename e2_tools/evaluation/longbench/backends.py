# SPDX-License-Identifier: Apache-2.0
"""Engines that answer LongBench's prompts greedily: transformers, and vLLM where installed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from e2_common.errors import UserError, brief
from e2_llm.window import Config, base_window, with_scale
from e2_llm.window_keys import WINDOW, repeated

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from transformers_patches.shared_prefill import SharedPrefill

BATCH_SIZES = {"transformers": 1, "vllm": 64}  # LongBench's own; vLLM schedules by itself
SPARE_TOKENS = 64  # a prompt may grow when it is tokenized again after truncation


class Backend(Protocol):
    """Answers a batch of prompts."""

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop: list[int] | None
    ) -> list[list[int]]:
        """Return the new token ids of each prompt; ``stop`` None stands for the model's own.

        With other stops than the model's own an answer has at least one token, as in LongBench.
        """
        ...


class TransformersBackend:
    """transformers on a CPU or GPU; every request at its own scale.

    Args:
        model: at any scale.
        config: the dict of its ``config.json``.
        scale: ``auto``, ``none`` or a fixed g.
        shared: keeps what prompts begin with; None reads each prompt whole.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        config: Config,
        scale: str | float,
        shared: "SharedPrefill | None" = None,
    ) -> None:
        self.model, self.config, self.scale, self.shared = model, config, scale, shared

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop: list[int] | None
    ) -> list[list[int]]:
        """See :class:`Backend`."""
        from transformers_patches.generation import generate

        return generate(
            self.model,
            prompts,
            max_new_tokens,
            config=self.config,
            scale=self.scale,
            stop=stop,
            min_new_tokens=0 if stop is None else 1,
            shared=self.shared,
        )


class VllmBackend:
    """vLLM; its engine fixes the scale when it starts, so there is one for all requests.

    Raises:
        UserError: vLLM is not installed, or ``scale`` is ``auto``, or its engine does not start.
    """

    def __init__(
        self, path: Path, config: Config, scale: str | float, dtype: str, longest: int
    ) -> None:
        if scale == "auto":
            raise UserError(
                "--scale auto: vLLM fixes the scale when it starts; give a number with --scale, "
                "or use --backend transformers"
            )
        try:
            from vllm import LLM, SamplingParams
        except ImportError as error:
            raise UserError(
                f"--backend vllm: cannot be imported ({brief(error)}); install vllm or use "
                "--backend transformers"
            ) from error
        self.sampling = SamplingParams
        overrides = {} if scale == "none" else rope_overrides(config, float(scale))
        try:
            self.engine = LLM(
                model=str(path),
                dtype={"fp32": "float32", "bf16": "bfloat16"}[dtype],
                max_model_len=longest + SPARE_TOKENS,
                hf_overrides=overrides,
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise UserError(f"--backend vllm: does not start ({brief(error)})") from error

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop: list[int] | None
    ) -> list[list[int]]:
        """See :class:`Backend`."""
        sampling = self.sampling(
            temperature=0.0,
            max_tokens=max_new_tokens,
            min_tokens=0 if stop is None else 1,
            stop_token_ids=stop,
        )
        requests = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        answers = self.engine.generate(requests, sampling, use_tqdm=False)
        return [list(answer.outputs[0].token_ids) for answer in answers]


def rope_overrides(config: Config, scale: float) -> Config:
    """Return vLLM's ``hf_overrides`` that serve a model at scale g."""
    scaled = with_scale(config, scale, math.ceil(scale * base_window(config)))
    return {name: scaled[name] for name in ("rope_parameters", WINDOW, *repeated(scaled))}
