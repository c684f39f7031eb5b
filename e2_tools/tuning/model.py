# SPDX-License-Identifier: Apache-2.0
"""The model that a run starts from: its RoPE and window as they were pre-trained, LoRA if asked."""

import argparse
import copy
import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, PreTrainedModel, logging

from e2_common.errors import UserError
from e2_llm.exported import KEY
from e2_llm.window_keys import WINDOW
from e2_tools.checkpoint.import_hf import ImportOptions, Source, read_source
from e2_tools.checkpoint.sliding import plain_attention
from e2_tools.evaluation.model import read_model
from e2_tools.tuning.arguments import our_flags

NORMS = ("norm", "input_layernorm", "post_attention_layernorm", "q_norm", "k_norm")
EMBEDDINGS = ("embed_tokens", "lm_head")


def require_packages(args: argparse.Namespace) -> None:
    """Check that what transformers itself needs for this run is installed.

    Raises:
        UserError: naming the package.
    """
    needed = {"accelerate": "training on transformers"}
    if args.lora:
        needed["peft"] = "--lora"
    if args.tensorboard_dir:
        needed["tensorboard"] = "--tensorboard-dir"
    for package, reason in needed.items():
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{reason} needs {package}: pip install {package}")


def source_of(args: argparse.Namespace) -> Source:
    """Read the config.json of --model; what is refused is what the converter refuses.

    Raises:
        UserError: the model is of no known family, or its L cannot be decided.
    """
    options = ImportOptions(
        hf_model=args.model,
        rope_scaling=args.rope_scaling,
        full_attention=args.full_attention,
        base_window=args.e2_base_window or None,
    )
    with our_flags():
        return read_source(options)


def load(args: argparse.Namespace, source: Source) -> PreTrainedModel:
    """Load the model with its own RoPE at the pre-trained window, whatever window it serves now.

    Weights are fp32, so that bf16 rounds no update; of a model that a LoRA leaves as it is they
    are bf16 with --bf16.

    Raises:
        UserError: it cannot be loaded.
    """
    rope = source.rope.own.to_hf()
    if rope is None:
        raise UserError(f"{source.path}: {source.rope.own.scaling()} cannot be trained together")
    content = copy.deepcopy(source.config) | {"rope_parameters": rope, WINDOW: source.rope.window}
    for name in ("rope_scaling", "rope_theta", KEY):
        content.pop(name, None)
    if args.full_attention:
        content = plain_attention(content, source.family)
    config = CONFIG_MAPPING[source.family.model_type].from_dict(content)
    logging.disable_progress_bar()
    return read_model(
        args.model, weight_type(args), config=config, attn_implementation=args.attention
    )


def weight_type(args: argparse.Namespace) -> torch.dtype:
    """Of the weights in training, but for what a LoRA trains, which is fp32."""
    return torch.bfloat16 if args.bf16 and args.lora else torch.float32


def with_lora(model: PreTrainedModel, args: argparse.Namespace) -> Any:
    """The model with a LoRA by PEFT, and with what is trained whole beside it.

    Raises:
        UserError: a name of --lora-targets is no matrix of the model, or embeddings that are the
            output matrix as well would be trained.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    modules = {name.rpartition(".")[2]: module for name, module in model.named_modules()}
    _check_targets(model, modules, args)
    whole = []
    if "norms" in args.lora_train_whole:
        whole += [name for name in NORMS if name in modules]
    if "embeddings" in args.lora_train_whole:
        whole += EMBEDDINGS
    settings = LoraConfig(
        r=args.lora,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules=args.lora_targets,
        modules_to_save=whole or None,
        task_type="CAUSAL_LM",
    )
    if args.gradient_checkpointing:  # else no gradient reaches a layer that is computed again
        model.enable_input_require_grads()
    set_seed(args.seed)  # of the factors that begin at random
    model = get_peft_model(model, settings)
    for parameter in model.parameters():
        if parameter.requires_grad:  # also what is trained whole, of which PEFT copies the type
            parameter.data = parameter.data.float()
    return model


def _check_targets(
    model: PreTrainedModel, modules: Mapping[str, nn.Module], args: argparse.Namespace
) -> None:
    """Refuse what gets no LoRA, or would get it at one of its two places only."""
    given = f"--lora-targets {' '.join(args.lora_targets)}"
    for name in args.lora_targets:
        if not isinstance(modules.get(name), nn.Linear):
            known = sorted(key for key, module in modules.items() if isinstance(module, nn.Linear))
            raise UserError(
                f"--lora-targets {name}: no such matrix in {args.model}, which has "
                f"{', '.join(known)}"
            )
    tied = model.config.tie_word_embeddings
    both = "this model uses one matrix for both ends (tie_word_embeddings)"
    if tied and "embeddings" in args.lora_train_whole:
        raise UserError(f"--lora-train-whole embeddings: {both}; leave embeddings out")
    if tied and "lm_head" in args.lora_targets:
        raise UserError(f"{given}: {both}; leave lm_head out")
    if "embeddings" in args.lora_train_whole and "lm_head" in args.lora_targets:
        raise UserError(f"{given}: --lora-train-whole embeddings trains lm_head whole already")


def trained_parameters(model: Any) -> str:
    """How many numbers are trained, for the report."""
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    whole = sum(count for count, _ in counts)
    trained = sum(count for count, moves in counts if moves)
    return f"{trained:,} of {whole:,} parameters ({trained / whole:.2%})"
