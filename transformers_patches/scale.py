# SPDX-License-Identifier: Apache-2.0
"""Serves a loaded model at another scale: its rotary modules are built anew, weights stay."""

import contextlib
import math
from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from e2_common.errors import UserError, on_one_line
from e2_llm.window import Config, base_window, with_scale
from transformers_patches.rotary import E2RotaryEmbedding


def set_scale(model: PreTrainedModel, config: Config, scale: float, window: int) -> None:
    """Give ``model`` the linear RoPE scale g, as a fresh load with that scale in its config would.

    transformers computes the rotary frequencies once, when a rotary module is built, so a change
    of the config of a loaded model does nothing: the modules are built anew. Weights stay.

    Args:
        model: a causal language model with rotary embeddings.
        config: the dict of the model's ``config.json``.
        scale: g >= 1.
        window: W, the window to serve, in tokens.

    Raises:
        UserError: the model takes draws, or the new module's shape differs, so this RoPE has
            settings that a linear one does not keep.
    """
    new_config = _config_of(model, with_scale(config, scale, window))
    for name, old in rotary_modules(model):
        if isinstance(old, E2RotaryEmbedding):
            raise UserError(
                "this model takes the draws of a training: save it and load it anew to serve it, "
                "or evaluate it within E2Positions.window"
            )
        new = type(old)(config=new_config).to(old.inv_freq.device)
        if new.inv_freq.shape != old.inv_freq.shape:
            raise UserError(f"--scale: the {type(old).__name__} of this model cannot be rescaled")
        model.set_submodule(name, new)


def _config_of(model: PreTrainedModel, config: Config) -> PreTrainedConfig:
    """The config of a model's own class, which may not take every RoPE."""
    try:
        return type(model.config).from_dict(config)
    except Exception as error:  # each class checks in its own way
        raise UserError(
            f"--scale: {type(model.config).__name__} of transformers does not take the RoPE that "
            f"this needs ({on_one_line(error)}); use --scale none"
        ) from error


def use_scale(model: PreTrainedModel, config: Config, scale: float | None) -> None:
    """Serve at the scale of a request, from its prefill on, until another is set.

    Args:
        model: a causal language model with rotary embeddings.
        config: the dict of its ``config.json``.
        scale: g; None leaves the model as it is.

    Raises:
        UserError: see :func:`set_scale`.
    """
    if scale is not None:
        window = math.ceil(scale * base_window(config))
        set_scale(model, config, scale, window)
        model.config.max_position_embeddings = window  # else transformers warns beyond L


@contextlib.contextmanager
def at_scale(model: PreTrainedModel, config: Config, scale: float | None) -> Iterator[None]:
    """Serve at a scale while the body runs; see :func:`use_scale`. The model is then as before."""
    before = rotary_modules(model), model.config.max_position_embeddings
    try:
        use_scale(model, config, scale)
        yield
    finally:
        modules, model.config.max_position_embeddings = before
        for name, module in modules:
            model.set_submodule(name, module)


def rotary_modules(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """The rotary modules of a model, by name.

    Raises:
        UserError: it has none.
    """
    modules = [(name, m) for name, m in model.named_modules() if hasattr(m, "inv_freq")]
    if not modules:
        raise UserError("--model: it has no rotary embedding; use a RoPE language model")
    return modules
