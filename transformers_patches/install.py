# SPDX-License-Identifier: Apache-2.0
"""Puts the rotary module that takes draws into a model, and gives it those of each micro-batch."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer

from e2_common.errors import UserError
from e2_llm.batch_draws import micro_batch_draws
from e2_llm.config import E2Config
from e2_llm.exported import KEY, Exported
from e2_llm.frequencies import OwnRope
from e2_llm.methods import method_for
from e2_llm.sampler import Draw
from e2_llm.window import as_trained, own_rope, remembered, rope_parameters, rule_of
from transformers_patches.batch import JOINTS, documents_of, joints_of
from transformers_patches.rotary import E2RotaryEmbedding

# Whose attention rotates every head by the halves of one module's cosines and sines. SmolLM2,
# TinyLlama, Yi and many others are Llamas.
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "smollm3")


class E2Positions:
    """The draws of a model in training; :func:`install` makes it.

    Attributes:
        config: of the positions.
        seed: of the draws.
        rotary: the module that was put into the model.
        own: the RoPE of the pre-trained model.
    """

    def __init__(
        self, config: E2Config, seed: int, rotary: E2RotaryEmbedding, own: OwnRope, written: Any
    ) -> None:
        self.config, self.seed, self.rotary, self.own = config, seed, rotary, own
        self._written = written  # the config object that save_pretrained writes
        self._windows = config.validation_windows  # evaluated as served, if given as a batch

    def set_samples(self, indices: range, consumed_samples: int) -> list[Draw]:
        """Say which samples the next forward pass trains on.

        Args:
            indices: global numbers of the samples, in the order in which all processes together
                read them, as :func:`e2_llm.sampler.sample_indices` counts.
            consumed_samples: samples of all earlier iterations.

        Returns:
            What was drawn: one for all of them, or with ``draw_per="sample"`` one for each.
        """
        draws = micro_batch_draws(self.config, self.seed, indices, consumed_samples)
        self.rotary.set_draws(draws)
        return draws

    def set_config(self, config: E2Config) -> None:
        """Draw by another configuration from now on, as one that knows how long the run is."""
        self.config, self._windows = config, config.validation_windows
        self.rotary.set_method(method_for(config))

    @contextlib.contextmanager
    def window(self, window: int) -> Iterator[None]:
        """Evaluate at the scale that a window is served with, in tokens, while the body runs."""
        before, self._windows = (self.rotary.evaluated, self._windows), ()
        self.rotary.evaluated = self._served(window)
        try:
            yield
        finally:
            self.rotary.evaluated, self._windows = before

    def _served(self, window: int) -> Draw:
        return Draw(self.rotary.method.serving_scale(window), 0)

    def exported(self, iteration: int | None = None) -> Exported:
        """What a config.json remembers of the training."""
        return Exported.of_training(self.rotary.method, own=self.own, iteration=iteration)

    def note_iteration(self, iteration: int) -> None:
        """Have the config of the model say after how many steps it was saved."""
        getattr(self._written, KEY)["iteration"] = iteration

    @torch.compiler.disable
    def before_forward(self, model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Take out of a batch what concerns positions alone; a hook of the model's decoder.

        Raises:
            UserError: a training model is asked to go on behind a cache, position ids neither go on
                nor begin anew at 0, the attention cannot keep these documents apart, or joints are
                missing.
        """
        kwargs = dict(zip(inspect.signature(model.forward).parameters, args, strict=False)) | kwargs
        joints, cache = kwargs.pop(JOINTS, None), kwargs.get("past_key_values")
        rows, length = _shape(kwargs)
        if not self.rotary.training:
            # generate hands over a cache, empty at first: a prompt is no window to evaluate.
            whole = cache is None and length in self._windows
            self.rotary.window = self._served(length) if whole else None
            if whole:
                kwargs["use_cache"] = False
            return (), kwargs
        if cache is not None and cache.get_seq_length():
            raise UserError(
                "a model in training mode is to go on behind a cache, as generate does: its draws "
                "are of whole windows; call model.eval() first"
            )
        ids, mask = kwargs.get("position_ids"), kwargs.get("attention_mask")
        documents = documents_of(ids, mask, rows, length)
        if documents is not None and documents.apart:
            self._keep_apart(model, rows, kwargs)
        missing = set(self.rotary.method.joints) - set(joints or ())
        if missing:
            raise UserError(
                f"a batch without the joints that placement {self.config.placement} cuts at: "
                f"{JOINTS} lacks {', '.join(sorted(missing))}; a Trainer drops them unless "
                "remove_unused_columns=False"
            )
        found = None if joints is None else joints_of(joints)
        self.rotary.set_draws(self.rotary.draws, documents and documents.lengths, found)
        return (), kwargs

    @staticmethod
    def _keep_apart(model: nn.Module, rows: int, kwargs: dict[str, Any]) -> None:
        """Have transformers look where documents begin, which it does without cache and mask."""
        kwargs["use_cache"] = False
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.dim() == 2 and mask.max() <= 1:  # else documents have numbers
            kwargs["attention_mask"] = None
        if rows > 1 and "flash" in str(model.config._attn_implementation):
            raise UserError(
                f"{rows} windows of several documents each: flash attention of transformers keeps "
                "those of one window apart only; take a micro-batch of 1, or sdpa"
            )


def install(model: nn.Module, config: E2Config, seed: int) -> E2Positions:
    """Replace the rotary module of a model, wrapped by PEFT or not, by one that takes draws.

    The model's config is from then on the one that the trained model is saved with: its own RoPE at
    the pre-trained window, and the ``e2_llm`` block that ``set_window.py`` reads.

    Args:
        model: whose RoPE is the standard one; see :data:`MODEL_TYPES`.
        config: of the positions.
        seed: of the draws, below 2^64. Of two runs with the same seed every sample has the same
            draw, also if one of them runs on Megatron with this ``--seed``.

    Raises:
        UserError: the model is of another kind, attends within a sliding window, or its RoPE is
            scaled already and L unclear.
    """
    written = model.config
    kind = written.model_type
    if kind not in MODEL_TYPES:
        raise UserError(
            f"model_type {kind!r}: E2-LLM replaces a standard rotary module, and is checked with "
            f"{', '.join(MODEL_TYPES)} only"
        )
    found = [
        (name, module) for name, module in model.named_modules() if hasattr(module, "inv_freq")
    ]
    if len(found) != 1:
        raise UserError(f"model_type {kind!r}: has {len(found)} rotary modules, one is needed")
    _require_full_attention(written)
    name, original = found[0]
    if isinstance(original, E2RotaryEmbedding):
        raise UserError("this model takes draws already; install once, or build it anew")
    content = remembered(written.to_dict(), config.base_window)
    before, own, method = Exported.from_config(content), own_rope(content), method_for(config)
    if before.base_window != config.base_window:
        raise UserError(
            f"base_window {config.base_window}: the model was pre-trained at "
            f"{before.base_window} tokens, as the e2_llm block of its config.json says"
        )
    _require_known(original, content)
    rotary = E2RotaryEmbedding(original, method, own).train(original.training)
    model.set_submodule(name, rotary)
    positions = E2Positions(config, seed, rotary, own, written)
    decoder = model.get_submodule(name.rpartition(".")[0])
    decoder.register_forward_pre_hook(positions.before_forward, with_kwargs=True)
    trained = as_trained(content, positions.exported(), method.trained_scale)
    for key in ("rope_parameters", "max_position_embeddings", KEY):
        setattr(written, key, trained[key])
    return positions


def _require_known(original: nn.Module, content: dict[str, Any]) -> None:
    """Refuse to take the place of a module that computes what we do not know of."""
    dim, own = 2 * len(original.inv_freq), own_rope(content)
    scale, window = rope_parameters(content)["factor"], Exported.from_config(content).base_window
    known = rule_of(content).frequencies(dim, own, scale, window)
    theirs = original.inv_freq.cpu()  # rounded, if the model was cast after it was built
    kind = torch.finfo(theirs.dtype)
    near = {"rtol": max(1e-5, kind.eps), "atol": kind.smallest_normal * kind.eps}
    same = torch.allclose(theirs.float(), known.inverse, **near)
    if not same or abs(original.attention_scaling - known.attention_factor) > 1e-6:
        raise UserError(
            f"the RoPE of this {content['model_type']} model is not the one that its config "
            "describes; E2-LLM would drop what scales it"
        )


def _require_full_attention(config: Any) -> None:
    """Refuse layers that see no farther than a sliding window, also when long ones are served."""
    layers = DynamicCache(config=config).layers
    if any(isinstance(layer, DynamicSlidingWindowLayer) for layer in layers):
        raise UserError(
            f"this {config.model_type} attends within a sliding window of {config.sliding_window} "
            "tokens; load it with sliding_window=None (of a Qwen, use_sliding_window=False)"
        )


def _shape(kwargs: dict[str, Any]) -> tuple[int, int]:
    """How many samples a batch has, and of how many tokens."""
    given = (kwargs.get("input_ids"), kwargs.get("inputs_embeds"))
    rows, length = next(tensor.shape[:2] for tensor in given if isinstance(tensor, Tensor))
    return rows, length
