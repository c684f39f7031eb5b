# SPDX-License-Identifier: Apache-2.0
"""Logits of a Megatron checkpoint by Megatron's own model, in fp32, on one CPU rank.

Megatron keeps global state, and on a machine without CUDA it runs patched (``cpu_runtime``). All
of that lives and ends in a child process, this module's ``main``; its memory comes back with it.
"""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from e2_common.disk.checkpoint_folder import find_iteration
from e2_common.disk.torch_dist_reader import TorchDistReader
from e2_common.errors import UserError, exit_on_user_error
from e2_common.files import writing
from e2_llm.config import E2Config
from e2_llm.frequencies import RULES, Rule
from megatron_patches.checkpoint.model_arguments import WINDOWS
from megatron_patches.checkpoint.model_fields import of_the_model
from megatron_patches.kernels.registry import PLAIN

ROOT = Path(__file__).resolve().parents[2]
MODEL = ("embedding.", "decoder.", "output_layer.")  # how the names of weights begin
EMBEDDING = "embedding.word_embeddings.weight"
# How this one evaluation runs, whatever the run did: on the CPU, in fp32, nothing fused.
RUNTIME: dict[str, Any] = {
    "micro_batch_size": 1,
    "transformer_impl": "local",
    "perform_initialization": False,
    "apply_rope_fusion": False,
    "masked_softmax_fusion": False,
    "gradient_accumulation_fusion": False,
    "bias_swiglu_fusion": False,
    "bias_gelu_fusion": False,
    "bias_dropout_fusion": False,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "kernels": {**PLAIN, "attention": "flash"},
}


def megatron_logits(
    load: Path,
    tokens: Tensor,
    scale: float | None = None,
    rule: Rule | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Run tokens through the checkpoint's model, which Megatron builds and loads.

    Args:
        load: a Megatron save folder, or one iteration of it.
        tokens: int64 [b, s].
        scale: g at which positions are made, with offset 0; by default the checkpoint's own.
        rule: turns ``scale`` into frequencies if the checkpoint has none; by default linear.
        dtype: to which weights are rounded beforehand; they are not by default.

    Returns:
        fp32 [b, s, rows of the stored embedding, with what only pads the vocabulary].

    Raises:
        UserError: the checkpoint is damaged, or Megatron cannot build, load or run its model.
    """
    folder = find_iteration(load).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        request = {
            "load": str(folder),
            "scale": scale,
            "positions": _positions(rule or RULES["linear"]),
            "dtype": str(dtype or torch.float32).removeprefix("torch."),
        }
        with writing(scratch):  # may be on another disk than the model, and full
            (Path(scratch) / "request.json").write_text(json.dumps(request))
            save_file({"tokens": tokens.contiguous()}, Path(scratch) / "tokens.safetensors")
        _run_child(scratch)
        return load_file(Path(scratch) / "logits.safetensors")["logits"]


def _positions(rule: Rule) -> dict[str, Any]:
    """Megatron's arguments of E2 with a rule."""
    flags = {"e2-frequencies": rule.name, **rule.flags()}
    return {name.replace("-", "_"): value for name, value in flags.items()}


def is_weight(name: str) -> bool:
    """Whether a tensor of a checkpoint is of the model, not of the optimizer or the like."""
    return name.startswith(MODEL) and not name.endswith("_extra_state")


def _run_child(scratch: str) -> None:
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",  # fp32 sums on the CPU, and no GPU memory is asked for
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_WORLD_SIZE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", __name__, scratch],
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return
    if os.environ.get("E2_TRACEBACK"):
        print(done.stderr, file=sys.stderr)
    told = re.findall(r"^error: (.*)$", done.stderr, flags=re.MULTILINE)
    if told:
        raise UserError(told[-1])
    reason = "killed, memory may be too small" if done.returncode < 0 else "it gave no reason"
    raise UserError(f"--check: Megatron's process ended with code {done.returncode}: {reason}")


@exit_on_user_error
def main() -> None:
    """The child: read the request in the folder ``sys.argv[1]``, leave the logits there."""
    scratch = Path(sys.argv[1])
    sys.argv = sys.argv[:1]  # Megatron parses the rest
    request = json.loads((scratch / "request.json").read_text())
    try:
        logits = _answer(scratch, **request)
    except UserError:
        raise
    except (Exception, CheckpointException) as error:  # Megatron refuses in many ways
        traceback.print_exc()
        cause = error
        if isinstance(error, CheckpointException):  # torch's wrapper of what went wrong on a rank
            cause = next(iter(error.failures.values()))[0]
        reason = (str(cause).strip().splitlines() or ["no reason given"])[0]
        raise UserError(
            f"--check: Megatron cannot run the checkpoint: {type(cause).__name__}: {reason} "
            "(E2_TRACEBACK=1 shows where)"
        ) from error
    save_file({"logits": logits}, scratch / "logits.safetensors")


def _answer(
    scratch: Path, load: str, scale: float | None, positions: dict[str, Any], dtype: str
) -> Tensor:
    from megatron_patches.runtime import cpu as cpu_runtime

    cpu_runtime.install()
    torch.distributed.init_process_group(
        "gloo", init_method=(scratch / "rendezvous").as_uri(), rank=0, world_size=1
    )
    reader = TorchDistReader(Path(load))
    args, config = arguments(reader, scale, positions)
    model = build(args, config)
    load_weights(model, reader, getattr(torch, dtype))
    tokens = load_file(scratch / "tokens.safetensors")["tokens"]
    return run(model, tokens, scale)


def arguments(
    reader: TorchDistReader, scale: float | None, positions: dict[str, Any]
) -> tuple[argparse.Namespace, E2Config]:
    """Megatron's defaults, with the model of the checkpoint: its arguments and its positions.

    Args:
        reader: of the checkpoint.
        scale: g at which it runs; None for its own.
        positions: arguments of E2 with the rule that gives scales to a checkpoint without any.
    """
    from megatron.training import arguments as megatron_arguments

    from e2_llm.arguments import add_arguments, argument_name, config_from_args

    stored = reader.common().get("args") or argparse.Namespace()
    args = megatron_arguments.parse_args(add_arguments)
    fields = [argument_name(item.name) for item in dataclasses.fields(E2Config) if item.metadata]
    args.position_method = "none"  # unless the checkpoint says otherwise: a plain Megatron run
    for name in (*of_the_model(vars(args)), *WINDOWS, *fields):
        if hasattr(stored, name):
            setattr(args, name, getattr(stored, name))
    if not hasattr(stored, "layernorm_epsilon") and hasattr(stored, "norm_epsilon"):
        args.layernorm_epsilon = stored.norm_epsilon
    for name, value in RUNTIME.items():
        setattr(args, name, value)
    unscaled = scale is None or (scale == 1 and RULES[positions["e2_frequencies"]].original_at_one)
    if args.position_method == "none" and not unscaled:
        # A model that knows nothing of scales is served at one: by this rule.
        args.position_method = "e2"
        vars(args).update(positions)
    args.padded_vocab_size = reader.tensors[EMBEDDING].size[0]
    megatron_arguments.validate_args(args)
    return args, config_from_args(args, stored=True)


def build(args: argparse.Namespace, config: E2Config) -> torch.nn.Module:
    """Build the model as training does, on one rank and with weights that are not initialized."""
    from megatron.core import parallel_state
    from megatron.core.process_groups_config import ProcessGroupCollection
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

    from megatron_patches.model.build import model_config

    parallel_state.initialize_model_parallel()
    model_parallel_cuda_manual_seed(1)
    settings = model_config(args, config)
    builder = settings.get_builder_cls()(settings)
    groups = ProcessGroupCollection.use_mpu_process_groups()
    (model,) = builder.build_distributed_models(groups, wrap_with_ddp=False)
    return model.eval()


def load_weights(model: torch.nn.Module, reader: TorchDistReader, dtype: torch.dtype) -> None:
    """Load by Megatron's distributed checkpointing, then round to ``dtype``; all stays fp32.

    Raises:
        UserError: model and checkpoint do not hold the same tensors.
    """
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing.mapping import ShardedObject, apply_factories
    from torch.utils._pytree import tree_leaves

    stored = {name for name in reader.tensors if is_weight(name)}
    if not any(name.endswith("linear_qkv.layer_norm_weight") for name in stored):
        for layer in model.decoder.layers:  # the norms have the names of the local layers
            layer.submodules_config.sharded_state_dict_keys_map = {}
    metadata = dist_checkpointing.load_content_metadata(str(reader.folder)) or {}
    if any(name.startswith("decoder.layers.0.") for name in stored):
        metadata["non_homogeneous_layers"] = True
    state = model.sharded_state_dict(metadata=metadata)
    # Objects are FP8's scales, which are not there in fp32; not every checkpoint holds them.
    state = {name: item for name, item in state.items() if not isinstance(item, ShardedObject)}
    strangers = stored.symmetric_difference(item.key for item in state.values())
    if strangers:
        raise UserError(
            "--check: the checkpoint and Megatron's model of its arguments do not both have "
            + ", ".join(sorted(strangers))
        )
    apply_factories(state)  # halves of a fused matrix become views, or it would be there twice
    targets = {name: [piece.data for piece in tree_leaves(item)] for name, item in state.items()}
    loaded = dist_checkpointing.load({"model": state}, str(reader.folder))["model"]
    with torch.no_grad():
        for name, views in targets.items():
            for view, tensor in zip(views, tree_leaves(loaded[name]), strict=True):
                view.copy_(tensor)  # itself, as torch loads in place
        for parameter in model.parameters():
            parameter.copy_(parameter.to(dtype))


def run(model: torch.nn.Module, tokens: Tensor, scale: float | None) -> Tensor:
    """Logits fp32 [b, s, v] of tokens [b, s], with offset 0."""
    from e2_llm.sampler import Draw
    from megatron_patches.training.step import set_draws

    if scale is not None:
        set_draws(model, [Draw(scale, 0)])
    positions = torch.arange(tokens.size(1)).expand_as(tokens)  # [b, s]
    with torch.no_grad():
        return model(tokens, positions, None).float().contiguous()


if __name__ == "__main__":
    main()
