# SPDX-License-Identifier: Apache-2.0
"""Puts the chosen kernels where Megatron has no slot for them.

Attention and norm go through the layer spec (``model.build``). The rest are names of Megatron that
are rebound here, each through ``runtime.replace``; a choice that needs no change puts back what
stood there, so that several runs of one process do not mix.
"""

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from megatron_patches.kernels import adamw, weight_gradients
from megatron_patches.runtime.replace import replace

EXTENSION = "fused_weight_gradient_mlp_cuda"  # apex's
JOINT = "apply_fused_qkv_rotary_pos_emb"  # Transformer Engine's

_originals: dict[tuple[str, str], Any] = {}


def install(choice: Mapping[str, str]) -> None:
    """Rebind Megatron's names; call before the model is built.

    Args:
        choice: the kernel of every part.
    """
    _rope(choice["rope"])
    _swiglu(choice["swiglu"])
    _cross_entropy(choice["cross_entropy"])
    _weight_gradients(choice["weight_gradients"])
    _adamw(choice["adamw"])


def _rebind(owner: ModuleType, name: str, new: Any = None) -> None:
    """Set ``owner.name``, or put back what stood there at first."""
    key = (owner.__name__, name)
    if new is not None:
        old = replace(owner, name, new)
        _originals.setdefault(key, old)
    elif key in _originals:
        replace(owner, name, _originals[key])


def _rope(kernel: str) -> None:
    from megatron.core.models.common.embeddings import rope_utils
    from megatron.core.transformer import attention

    from megatron_patches.kernels.rope import rotate, rotate_joint

    ours = kernel == "triton"
    _rebind(rope_utils, "fused_apply_rotary_pos_emb", rotate if ours else None)
    if not hasattr(attention, JOINT):  # its import failed, so the name never came into being
        setattr(attention, JOINT, None)
    _rebind(attention, JOINT, rotate_joint if ours else None)
    _rebind(attention, "HAVE_FUSED_QKV_ROPE", True if ours else None)


def _swiglu(kernel: str) -> None:
    from megatron.core.fusions import fused_bias_swiglu

    new = None
    if kernel == "liger":
        from megatron_patches.kernels.liger import SwiGLU as new  # noqa: N811
    _rebind(fused_bias_swiglu, "SwiGLUFunction", new)


def _cross_entropy(kernel: str) -> None:
    from megatron.core.models.common.language_module import language_module

    new = None
    if kernel == "liger":
        from megatron_patches.kernels.liger import cross_entropy as new
    _rebind(language_module, "fused_vocab_parallel_cross_entropy", new)


def _weight_gradients(kernel: str) -> None:
    from megatron.core.tensor_parallel import layers

    ours = kernel in ("te", "addmm")  # Transformer Engine has no output layer
    if not hasattr(layers, EXTENSION):  # its import failed, so the name never came into being
        setattr(layers, EXTENSION, None)
    _rebind(layers, EXTENSION, weight_gradients if ours else None)
    _rebind(layers, "_grad_accum_fusion_available", True if ours else None)
    # Megatron imports it once more, to drain deferred gradients of the embedding.
    if ours:
        sys.modules[EXTENSION] = weight_gradients
    elif sys.modules.get(EXTENSION) is weight_gradients:
        del sys.modules[EXTENSION]


def _adamw(kernel: str) -> None:
    from megatron.training import training

    new = None
    if kernel in adamw.SETTINGS:
        key = (training.__name__, "get_megatron_optimizer")
        original = _originals.get(key, training.get_megatron_optimizer)

        def new(*args: Any, **kwargs: Any) -> Any:
            optimizer = original(*args, **kwargs)
            adamw.select(optimizer, kernel)
            return optimizer

    _rebind(training, "get_megatron_optimizer", new)
