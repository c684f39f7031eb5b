# SPDX-License-Identifier: Apache-2.0
"""The ``config.json`` of an exported model: sizes, the served window, the ``e2_llm`` block."""

from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.model_sizes import ModelSizes
from e2_llm.exported import KEY, Exported
from e2_llm.window import Config, as_trained
from e2_llm.window_keys import WINDOW, with_config_window
from e2_tools.checkpoint.config_types import read_config
from e2_tools.checkpoint.families import Family
from e2_tools.checkpoint.known_rope import complete
from e2_tools.checkpoint.run_args import RunArgs
from e2_tools.checkpoint.sliding import plain_attention


def complete_config(path: Path) -> Config:
    """Read a config.json as transformers does: defaults filled in, RoPE as ``rope_parameters``.

    Raises:
        UserError: a value has the wrong type, or transformers refuses it.
    """
    return complete(read_config(path), path)


def model_config(
    run: RunArgs, sizes: ModelSizes, dtype: str, family: Family, base: Config | None = None
) -> Config:
    """Build ``config.json`` at the pre-trained window, without the ``e2_llm`` block.

    Args:
        run: what the checkpoint says.
        sizes: of the weights, the vocabulary cut.
        dtype: of the weights, in torch's words.
        family: of the model.
        base: what is understood of an existing ``config.json`` to start from, which
            :func:`require_same_model` has checked.
    """
    sizes_of_weights = _expected(run, sizes)
    rope = {"rope_type": "linear", "factor": 1.0, "rope_theta": run.exported.rope_theta}
    config: Config = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        **sizes_of_weights,
        **family.config,
        "attention_dropout": 0.0,
        "initializer_range": run.init_std,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if base is not None:
        config = {**with_config_window(base, run.exported.base_window), **sizes_of_weights}
        config["architectures"] = [family.architecture]
        config.pop("torch_dtype", None)
        config |= {name: value for name, value in family.config.items() if name in config}
        config = plain_attention(config, family)  # a sliding window that was dropped stays so
    config |= {WINDOW: run.exported.base_window, "rope_parameters": rope}
    config.pop("rope_scaling", None)
    config.pop(KEY, None)
    config["dtype"] = dtype
    return config


def require_same_model(run: RunArgs, sizes: ModelSizes, path: Path) -> None:
    """Check that ``config.json`` describes the checkpoint's model.

    Raises:
        UserError: naming every field that differs.
    """
    found = complete_config(path)
    exported = Exported.from_config(found)
    theta = exported and exported.rope_theta or found["rope_parameters"]["rope_theta"]
    if found.get("head_dim") is None:  # written as null by some versions of transformers
        found["head_dim"] = found["hidden_size"] // found["num_attention_heads"]
    wanted = {**_expected(run, sizes), "rope_theta": run.exported.rope_theta}
    found["rope_theta"] = float(theta)
    wrong = [
        f"{name} is {found.get(name)!r}, in the checkpoint {value!r}"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    if wrong:
        raise UserError(f"{path}: another model than --load: {'; '.join(wrong)}")


def _expected(run: RunArgs, sizes: ModelSizes) -> dict[str, Any]:
    rotating = run.without_rope and [1 - without for without in run.without_rope]
    return ({"no_rope_layers": rotating} if rotating else {}) | {
        "vocab_size": sizes.vocab,
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.ffn,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.groups,
        "head_dim": sizes.head_dim,
        "rms_norm_eps": run.norm_eps,
        "tie_word_embeddings": sizes.tied,
    }


def served(config: Config, run: RunArgs, window: int | None) -> Config:
    """Add the ``e2_llm`` block and set the window to serve.

    Args:
        config: from :func:`model_config`.
        run: what the checkpoint says.
        window: in tokens. By default the pre-trained L; with a single trained scale g, g * L.

    Raises:
        UserError: the model was trained at one linear factor and ``window`` asks for another.
    """
    return as_trained(config, run.exported, run.trained_scale, window)
