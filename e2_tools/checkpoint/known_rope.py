# SPDX-License-Identifier: Apache-2.0
"""Whether a scale can be written into the config.json of a model of any type.

For the families that the converters know, that is proved by their tests. Any other type has to show
it: of a small copy with random weights, the logits at scale 2 and positions 2 p have to be those at
scale 1 and positions p, and not those at scale 2 and positions p. So models without RoPE, with
positions of another kind beside it, or with a RoPE that config.json cannot scale are refused.
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from e2_common.errors import UserError, brief
from e2_llm.window import Config, own_rope, remembered, with_scale
from e2_tools.checkpoint.families import FAMILIES

# What makes a copy small, where a config has it; sizes of heads stay.
_LAYERS, _HEADS = 4, 2
_SMALL = {
    "num_attention_heads": _HEADS,
    "num_key_value_heads": _HEADS,
    "num_kv_heads": _HEADS,
    "intermediate_size": 32,
    "moe_intermediate_size": 32,
    "ffn_hidden_size": 32,
    "num_local_experts": 4,
    "num_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "vocab_size": 32,
}
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_POSITIONS = (0, 1, 4, 6, 11, 12)
_MOST = 64_000_000  # parameters of a copy


def complete(config: Config, path: object) -> Config:
    """Fill in a config.json what transformers takes where keys are missing.

    Args:
        config: the dict of config.json.
        path: of the file, for messages.

    Raises:
        UserError: transformers does not know the model type, or refuses the values.
    """
    return _theirs(config, path).to_dict()


def require_scalable(config: Config, path: object) -> None:
    """Check that the scale of a model which no block of ours describes can be written.

    Args:
        config: the dict of config.json, complete with the base and the window.
        path: of the file, for messages.

    Raises:
        UserError: it cannot, with the reason.
    """
    theirs = _theirs(config, path)
    rope = getattr(theirs, "rope_parameters", None) or {}
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(f"{path}: only a part of each head is rotated, which is not supported")
    if any(isinstance(value, dict) for value in rope.values()):
        raise UserError(f"{path}: RoPE differs between layers; use a model with a single one")
    own_rope(config)
    if theirs.model_type in FAMILIES:
        return
    try:
        with _silent():
            kept = _same_at_double_positions(theirs, config)
    except Exception as error:  # each kind of model fails in its own way
        raise UserError(
            f"{path}: whether a scale can be written for model_type {theirs.model_type!r} cannot "
            f"be checked ({brief(error)}); known are {', '.join(FAMILIES)}"
        ) from error
    if not kept:
        raise UserError(
            f"{path}: the positions of model_type {theirs.model_type!r} are not those of a single "
            f"RoPE that config.json scales; known are {', '.join(FAMILIES)} and others like them"
        )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what transformers says of a config.json on stderr; refusals are ours."""
    from transformers import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _theirs(config: Config, path: object) -> Any:
    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise UserError(f"{path}: transformers knows no model_type {kind!r}")
    try:
        with _silent():
            return CONFIG_MAPPING[kind].from_dict(copy.deepcopy(config))
    except Exception as error:  # each kind of model refuses in its own way
        raise UserError(f"{path}: transformers refuses it ({brief(error)})") from error


def _same_at_double_positions(theirs: Any, config: Config) -> bool:
    small = _small(theirs, config)
    known = remembered(small, small["max_position_embeddings"])
    window = known["max_position_embeddings"]
    one, two = (with_scale(known, scale, round(scale * window)) for scale in (1.0, 2.0))
    positions = torch.tensor([_POSITIONS])
    expected = _logits(type(theirs), small, positions)
    others = [(one, positions), (two, 2 * positions), (two, positions)]
    scaled, doubled, other = (_logits(type(theirs), *other) for other in others)
    size = expected.abs().max()
    same = all((found - expected).abs().max() < 1e-3 * size for found in (scaled, doubled))
    return bool(same and (other - expected).abs().max() > 1e-2 * size)


def _small(theirs: Any, config: Config) -> Config:
    """The config.json of the copy, with the RoPE of ``config`` as it stands."""
    names = getattr(theirs, "attribute_map", {})
    result, head = theirs.to_dict(), _head_size(theirs)
    changes = {**_SMALL, "hidden_size": _HEADS * head, **dict.fromkeys(_IDS)}
    changes["num_hidden_layers"] = min(_LAYERS, theirs.num_hidden_layers)
    result |= {
        names.get(name, name): value
        for name, value in changes.items()
        if names.get(name, name) in result
    }
    if result.get("head_dim") is not None:
        result["head_dim"] = head
    layers = theirs.num_hidden_layers
    for name, value in result.items():
        if isinstance(value, list) and len(value) == layers:  # one entry a layer
            result[name] = value[:_LAYERS]
    for name in ("rope_parameters", "rope_scaling", "rope_theta"):
        result.pop(name, None)
        if name in config:
            result[name] = copy.deepcopy(config[name])
    return result


def _head_size(theirs: Any) -> int:
    return getattr(theirs, "head_dim", None) or theirs.hidden_size // theirs.num_attention_heads


def _logits(kind: type, config: Config, positions: Tensor) -> Tensor:
    """Logits [1, s, vocabulary] at positions [1, s], always of the same random weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(kind.from_dict(copy.deepcopy(config)))
    if model.num_parameters() > _MOST:
        raise UserError(f"a small copy has {model.num_parameters()} parameters")
    model = AutoModelForCausalLM.from_config(kind.from_dict(copy.deepcopy(config))).float().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(
            parameter.data, mean=0.5 * (parameter.dim() == 1), std=0.2, generator=generator
        )
    with torch.inference_mode():
        tokens = torch.arange(3, 3 + positions.size(1))[None]
        return model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=torch.ones_like(tokens),  # else gaps would part several texts
            use_cache=False,
        ).logits
