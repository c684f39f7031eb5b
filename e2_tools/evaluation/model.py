# SPDX-License-Identifier: Apache-2.0
"""A Hugging Face causal language model whose RoPE scale can be changed after loading."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, logging

from e2_common.errors import UserError, brief, on_one_line
from e2_llm.window import (
    Config,
    base_window,
    factor_note,
    frequency_rule,
    rope_parameters,
    scale_for,
    standing_rope,
    with_rule,
)
from e2_llm.window_keys import WINDOW
from e2_tools.checkpoint.config_types import read_config
from e2_tools.checkpoint.pretrained_window import completed, pretrained
from e2_tools.checkpoint.which_weights import weights_of
from e2_tools.evaluation.arguments import AUTO_DTYPE
from e2_tools.evaluation.precision import DTYPES, choose_dtype
from transformers_patches import on_cpu
from transformers_patches.scale import rotary_modules


def load_config(path: Path, flag: str = "--model") -> Config:
    """Read the ``config.json`` of the model in ``path``.

    Args:
        path: of its folder.
        flag: that names it, for messages.

    Raises:
        UserError: the folder or the file is missing or malformed.
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; name a Hugging Face model folder with {flag}")
    file = path / "config.json"
    if not file.is_file():
        raise UserError(f"{path}: has no config.json; name a Hugging Face model folder with {flag}")
    config = completed(read_config(file), path)
    if config.get(WINDOW) is None:
        raise UserError(f"{file}: has no {WINDOW}; use a RoPE language model")
    return config


def config_of(args: argparse.Namespace, flag: str = "--model") -> Config:
    """Read the ``config.json`` of the command line's model, with the rule that it asks for.

    Says on stderr if the model serves another scale than it was trained for. In place of
    ``--dtype auto`` stands from then on what was chosen, and :func:`model_loader` says why.

    Args:
        args: with the flags of :func:`e2_tools.evaluation.arguments.add_model_arguments`.
        flag: that names the model, for messages.

    Raises:
        UserError: see :func:`load_config`; L cannot be decided or the RoPE not be rescaled, unless
            ``--scale`` is none; a rule is named and nothing is rescaled; no such device here.
    """
    config, notes = load_config(args.model, flag), []
    try:
        found = pretrained(config, args.model)
    except UserError as error:
        if args.scale != "none":
            raise UserError(_without_flag(str(error))) from error
    else:
        config, notes = found.config, found.notes
    if args.frequencies is not None:
        if args.scale == "none":
            raise UserError(
                f"--frequencies {args.frequencies}: nothing is rescaled with --scale none; drop one"
            )
        config = with_rule(config, args.frequencies)
    if args.scale == "auto":
        for note in filter(None, (*notes, factor_note(config))):
            print(f"note: {args.model}: {_without_flag(note)}", file=sys.stderr)
    args.dtype, args.dtype_reason = choose_dtype(args, config, choose_device(args.device))
    return config


def _without_flag(told: str) -> str:
    """Name the command that takes a flag which evaluations do not have."""
    return told.replace("--base-window", "set_window.py --base-window")


def scales_for(
    config: Config, windows: list[int], scale: str | float
) -> tuple[int | None, dict[int, float | None]]:
    """Return L and the scale g of every window.

    Args:
        config: the dict of ``config.json``.
        windows: in tokens.
        scale: ``auto`` for what each window needs (:func:`scale_for`), ``none`` for the model's own
            RoPE, or a fixed g.

    Returns:
        L in tokens, and window -> g. With ``none`` these only report what the model has: both are
        None if its RoPE is neither default nor linear.

    Raises:
        UserError: the RoPE can not be rescaled, yet ``scale`` is not ``none``.
    """
    try:
        base, own = base_window(config), rope_parameters(config)["factor"]
    except UserError:
        if scale != "none":
            raise
        base = own = None
    if scale == "none":
        return base, dict.fromkeys(windows, own)
    if scale == "auto":
        return base, {window: scale_for(config, window) for window in windows}
    return base, dict.fromkeys(windows, float(scale))


def choose_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is the GPU where there is one.

    Raises:
        UserError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"--device {name}: not available here ({brief(error)}); use --device cpu or auto"
        ) from error
    return device


def load_model(path: Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Load the model in ``path`` for evaluation, with its own RoPE and sdpa attention.

    Raises:
        UserError: it cannot be loaded, lacks weights, or its logits are more than its output
            matrix times the hidden state (which the evaluation relies on).
    """
    if device.type == "cpu":
        on_cpu.install()
    model = read_model(path, dtype)
    model = model.to(device).eval()
    rotary_modules(model)
    ids = torch.zeros(1, 2, dtype=torch.long, device=device)
    with torch.inference_mode():
        try:
            plain = model.get_output_embeddings()(hidden_states(model, ids))
            logits = model(ids).logits
        except Exception as error:  # each kind of model fails in its own way
            raise UserError(
                f"{path}: {type(model).__name__} is none of the language models that can be "
                f"evaluated ({on_one_line(error)})"
            ) from error
        if not torch.allclose(logits.float(), plain.float()):
            raise UserError(
                f"{path}: this kind of model rescales its logits, which is not supported"
            )
    return model


def read_model(path: Path, dtype: torch.dtype, **more: Any) -> PreTrainedModel:
    """Read the model in ``path`` from its files alone, with sdpa attention unless another is asked.

    Args:
        path: of the folder.
        dtype: of its weights.
        more: for ``from_pretrained``.

    Raises:
        UserError: it cannot be loaded, or lacks weights.
    """
    options = {"attn_implementation": "sdpa", **more}
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # transformers raises about anything here
        raise UserError(f"{path}: transformers cannot load this model ({brief(error)})") from error
    if info["missing_keys"]:  # transformers would go on with random weights
        raise UserError(
            f"{path}: weights are missing, {sorted(info['missing_keys'])[0]} among them"
        )
    return model


def model_loader(args: argparse.Namespace) -> Callable[[], PreTrainedModel]:
    """Check the device of the command line at once; return what loads its model.

    So a mistake is told before the texts are read, and the weights are read after them.

    Args:
        args: with the flags of :func:`e2_tools.evaluation.arguments.add_model_arguments`, after
            :func:`config_of`.

    Raises:
        UserError: no such device here; on the call, whatever :func:`load_model` finds.
    """
    device = choose_device(args.device)

    def load() -> PreTrainedModel:
        logging.disable_progress_bar()  # ours tells enough
        if args.dtype_reason:
            print(f"note: --dtype {AUTO_DTYPE}: {args.dtype}, {args.dtype_reason}", file=sys.stderr)
        return load_model(args.model, DTYPES[args.dtype], device)

    return load


def described(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    """Return what a result file says about the model of the command line and its RoPE.

    Args:
        args: with the flags of :func:`e2_tools.evaluation.arguments.add_model_arguments`,
            ``--label`` among them.
        config: the dict of the model's ``config.json``.
    """
    return {
        "label": args.label or args.model.resolve().name,
        "model": str(args.model),
        **identity(args, config),
        "dtype": args.dtype,
        "scale_mode": args.scale,
        "frequencies": frequency_rule(config),
    }


def identity(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    """Return what tells a model from another that may lie in its folder at another time.

    Args:
        args: with the flags of :func:`e2_tools.evaluation.arguments.add_model_arguments`.
        config: the dict of the model's ``config.json``.
    """
    # Of a rescaled RoPE the rule, L and g say all.
    own_rope = standing_rope(config) if args.scale == "none" else None
    return {"weights": weights_of(args.model), "own_rope": own_rope}


def hidden_states(model: PreTrainedModel, input_ids: torch.Tensor) -> torch.Tensor:
    """Return the last hidden states [batch, length, hidden] of ids [batch, length]."""
    return model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
