# SPDX-License-Identifier: Apache-2.0
"""The ``config.json`` of an exported model: sizes, the served window, the ``e2_llm`` block."""

import json
from pathlib import Path
from typing import Any

from megatron_patches.errors import UserError
from tools.checkpoint.llama import Sizes
from tools.checkpoint.run_args import RunArgs
from tools.checkpoint.window import Config, base_window, rope_parameters, with_scale, with_window


def read_json(path: Path) -> Config:
    """Read a JSON object.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error}); mend or replace it") from error
    if not isinstance(result, dict):
        raise UserError(f"{path}: is not a JSON object; mend or replace it")
    return result


def write_json(path: Path, content: Config) -> None:
    """Write a JSON object as transformers lays it out."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def model_config(run: RunArgs, sizes: Sizes, dtype: str, base: Config | None = None) -> Config:
    """Build ``config.json`` at the pre-trained window, without the ``e2_llm`` block.

    Args:
        run: what the checkpoint says.
        sizes: of the weights, the vocabulary cut.
        dtype: of the weights, in torch's words.
        base: an existing ``config.json`` to start from, checked by :func:`require_same_model`.
    """
    sizes_of_weights = _expected(run, sizes)
    config: Config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **sizes_of_weights,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": run.init_std,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "max_position_embeddings": run.base_window,
        "rope_parameters": {"rope_type": "linear", "factor": 1.0, "rope_theta": run.rope_theta},
    }
    if base is not None:
        config = {**base, **sizes_of_weights, "rope_theta": run.rope_theta}
        config.pop("torch_dtype", None)  # the name of "dtype" before transformers 5
    config["dtype"] = dtype
    return with_scale(config, 1.0, run.base_window)


def require_same_model(base: Config, run: RunArgs, sizes: Sizes, path: Path) -> None:
    """Check that ``config.json`` describes the checkpoint's model.

    Raises:
        UserError: naming every field that differs.
    """
    defaults = {
        "num_key_value_heads": base.get("num_attention_heads"),
        "head_dim": base.get("hidden_size", 0) // (base.get("num_attention_heads") or 1),
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-6,
    }
    wanted = {
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        **_expected(run, sizes),
    }
    defaults |= {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
    found = {name: base.get(name, defaults.get(name)) for name in wanted}
    if found["head_dim"] is None:  # written as null by some versions of transformers
        found["head_dim"] = defaults["head_dim"]
    wanted["rope_theta"] = run.rope_theta
    found["rope_theta"] = rope_parameters(base)["rope_theta"]
    wrong = [
        f"{name} is {found[name]!r}, in the checkpoint {value!r}"
        for name, value in wanted.items()
        if found[name] != value
    ]
    if wrong:
        raise UserError(f"{path}: another model than --load: {'; '.join(wrong)}")


def _expected(run: RunArgs, sizes: Sizes) -> dict[str, Any]:
    return {
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
    block = {
        "method": run.method,
        "frequencies": run.frequencies,
        "rope_theta": run.rope_theta,
        "base_window": run.base_window,
        "train_window": run.train_window,
        "max_scale": run.max_scale,
        "keep_first": run.keep_first,
        "iteration": run.iteration,
    }
    config = {**config, "e2_llm": block}
    trained = round((run.trained_scale or 1.0) * run.base_window)
    if run.method not in ("e2", "none"):
        if window not in (None, trained):
            raise UserError(
                f"--window {window}: this model was trained by --position-method {run.method} at "
                f"factor {run.trained_scale:g} and knows no other scale; its window is {trained}"
            )
        return with_scale(config, run.trained_scale, trained)
    return with_window(config, trained if window is None else window)


def window_note(config: Config) -> str | None:
    """Say when a window lies beyond the scales that training drew; None when it does not."""
    largest = (config.get("e2_llm") or {}).get("max_scale")
    scale = rope_parameters(config)["factor"]
    if largest is None or scale <= largest:
        return None
    trained = largest * base_window(config)
    return f"factor {scale:g} is beyond the trained scales 1..{largest} (window {trained})"
