# SPDX-License-Identifier: Apache-2.0
"""Megatron's arguments plus ours, defaults that fit the machine, and one-line refusals."""

import argparse
from pathlib import Path
from typing import NoReturn

from megatron.training import arguments as megatron_arguments

from e2_common.disk.checkpoint_folder import TRACKER, has_tracker
from e2_common.disk.indexed_dataset import begins_as_index
from e2_common.errors import UserError
from e2_common.outputs import check_folder
from e2_llm.arguments import add_arguments, config_from_args, own_rope, store
from e2_llm.config import E2Config
from e2_llm.methods import method_for
from megatron_patches.checkpoint import starting_point
from megatron_patches.checkpoint.model_arguments import check_family
from megatron_patches.checkpoint.same_model import check_checkpoint, checkpoint_arguments, model_of
from megatron_patches.data import blend, joints, loss_mask
from megatron_patches.data.blend import REMOTE
from megatron_patches.kernels import choice
from megatron_patches.kernels.facts import gather, typed_switches
from megatron_patches.runtime import fixes
from megatron_patches.start import unsupported
from megatron_patches.start.batch_sizes import phases
from megatron_patches.start.owners import check_owners
from megatron_patches.start.refusal import one_line
from megatron_patches.start.refused import (
    flags_of,
    refuse_ignored,
    refuse_overruled,
    refuse_without_te,
    refuse_yaml,
    taken_over,
    typed,
)
from megatron_patches.start.report import findings

# Megatron's arguments without a CUDA device; only defaults: what the user types stands.
CPU_DEFAULTS = {
    "distributed_backend": "gloo",
    "bias_dropout_fusion": False,
    "rerun_mode": "disabled",
    "gpu_sniff_test": False,
}


def parse_arguments(on_cpu: bool) -> tuple[argparse.Namespace, E2Config]:
    """Parse the command line, refuse what cannot work, set Megatron's global variables.

    Args:
        on_cpu: whether the CPU runtime is installed.

    Returns:
        Megatron's validated arguments, and the configuration of the positions.

    Raises:
        UserError: an argument, or a file it names, is wrong.
    """
    defaults: dict[str, object] = dict(CPU_DEFAULTS) if on_cpu else {}
    parsers: list[argparse.ArgumentParser] = []

    def add_ours(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
        parsers.append(parser)
        add_arguments(parser)
        loss_mask.add_arguments(parser)
        starting_point.add_arguments(parser)
        choice.add_arguments(parser)
        known = {action.dest for action in parser._actions}
        # 0.19.2 has no default and then divides by None; 1000 is what it used to be.
        parser.set_defaults(eval_interval=1000)
        parser.set_defaults(**{key: value for key, value in defaults.items() if key in known})
        fixes.escape_percent_signs(parser)
        parser.error = _refuse  # argparse would print a usage of a thousand lines first
        return parser

    refuse_yaml()
    early = megatron_arguments.parse_args(add_ours)
    flags = flags_of(parsers[0])
    told = typed(parsers[0], early)
    notes = refuse_ignored(told)
    if not early.use_checkpoint_args:
        _check_windows(early)
    _check_files(early)
    unsupported.check_wandb(early)
    iteration, fallen_back = starting_point.choose(early)
    if iteration is not None:
        early.ckpt_step = defaults["ckpt_step"] = iteration
    switches = typed_switches(early)
    defaults |= choice.megatron_defaults(early, on_cpu)
    use_stored = early.use_checkpoint_args
    stored = checkpoint_arguments(early) if use_stored else argparse.Namespace()
    model = model_of(stored, flags)
    taken = taken_over(parsers[0], model)
    refuse_ignored(taken)
    refuse_without_te(told + taken, defaults.get("transformer_impl", early.transformer_impl))
    defaults |= model
    with one_line():
        args = megatron_arguments.parse_and_validate_args(add_ours)
    refuse_overruled(told, args, stored)
    config = config_from_args(args)
    store(args, config)
    _check_support(args, config)
    unsupported.check(args, on_cpu)
    facts = gather(args, config, on_cpu, switches)
    chosen = choice.choose(args, facts)
    choice.set_megatron_arguments(args, chosen)
    args.kernels = dict(chosen.names)
    if args.reset_attention_mask:
        args.create_attention_mask_in_dataloader = True
    args.window_joints = list(method_for(config).joints)
    args.data_blend = _check_blend(args, config)
    warnings = notes + fallen_back + config.warnings() + check_checkpoint(args, flags)
    warnings += check_owners(told, args) + _check_export(args, config)
    if args.rank == 0:
        if on_cpu:
            settings = ", ".join(f"{name}={value}" for name, value in CPU_DEFAULTS.items())
            print(f"> without a CUDA device: {settings}")
        for finding in findings(args, config, facts, chosen):
            print(f"> {finding}")
        for warning in warnings:
            print(f"WARNING: {warning}", flush=True)
    return args, config


def _check_blend(args: argparse.Namespace, config: E2Config) -> list[dict[str, object]]:
    """Check the datasets once a node; the first rank shows the blend and stores it."""
    if args.local_rank != 0:
        return []
    parts = blend.check_blends(args, args.padded_vocab_size)
    cut = joints.check(args, config, parts)
    if args.rank == 0:
        for part in parts:
            print(f"> data: {part}", flush=True)
        masked = any(part.loss_mask for part in parts)
        if masked and not args.calculate_per_token_loss:
            print(
                "> with loss masks micro-batches count different numbers of tokens, and each "
                "weighs alike: --calculate-per-token-loss weighs each token alike"
            )
        if cut:
            print(f"> joints: {cut}")
    return blend.as_records(parts)


def _refuse(message: str) -> NoReturn:
    """Stand-in for ``ArgumentParser.error``."""
    raise UserError(f"{message} (--help lists every argument)")


def _check_support(args: argparse.Namespace, config: E2Config) -> None:
    """What Megatron allows and this project, or a missing package, does not."""
    if args.position_embedding_type != "rope":
        raise UserError(
            f"--position-embedding-type {args.position_embedding_type}: E2-LLM changes rotary "
            "positions; use --position-embedding-type rope"
        )
    if args.seed < 1:
        raise UserError(f"--seed {args.seed}: must be positive; draws and data depend on it")
    ranks = args.micro_batch_size * args.data_parallel_size
    uneven = [phase.windows for phase in phases(args) if phase.windows % ranks]
    if uneven and starting_point.source_of(args) is None:  # a resumed run may be past it
        raise UserError(
            f"--step-batch-size-schedule: {uneven[0]} windows are no multiple of {ranks} "
            "(--micro-batch-size times the data-parallel size)"
        )
    method = method_for(config)
    if args.mtp_num_layers and method.rule.has_attention_factor:
        raise UserError(
            "--mtp-num-layers: its layers do not get YaRN's attention temperature; use other "
            "frequencies, or drop it"
        )
    if args.context_parallel_size > 1 and args.transformer_impl == "local":
        raise UserError(
            f"--context-parallel-size {args.context_parallel_size}: only Transformer Engine's "
            "attention does it; install it, or use tensor and pipeline parallelism"
        )
    if method.rule.has_attention_factor and getattr(args, "fused_single_qkv_rope", False):
        raise UserError(
            "--fused-single-qkv-rope: rotates the query before the attention factor of "
            f"{method.rule.name} frequencies can be applied to it; drop it"
        )
    if not method.rule.exportable and not args.e2_override:
        raise UserError(
            f"--e2-frequencies {method.rule.name}: no rope_type of transformers computes it, so "
            "the trained model could not be exported; --e2-override trains all the same"
        )
    # Once now: frequencies that do not fit the model would else be found by its first step.
    dim = int(args.kv_channels * args.rotary_percent)
    method.frequencies(method.validation_draw(), dim, own_rope(args))


def _check_export(args: argparse.Namespace, config: E2Config) -> list[str]:
    """Say before a run that its checkpoints are of no use outside of Megatron, not after it."""
    if not args.save:
        return []
    try:
        check_family(args, config)
    except UserError as reason:
        if args.e2_override:
            return [f"--save {args.save}: cannot be exported to Hugging Face: {reason}"]
        raise UserError(
            f"--save {args.save}: what it would hold cannot be exported to Hugging Face: {reason} "
            "(--e2-override trains it all the same)"
        ) from reason
    return []


def _check_windows(args: argparse.Namespace) -> None:
    """Check R and L before Megatron does, whose assertion about them says nothing."""
    config = config_from_args(args)
    if config.train_window > (args.max_position_embeddings or 0):
        raise UserError(
            f"--seq-length {config.train_window} is above --max-position-embeddings "
            f"{args.max_position_embeddings}: raise the latter to {config.train_window} and name "
            f"the pre-trained window with --e2-base-window {config.base_window}"
        )


def _check_files(args: argparse.Namespace) -> None:
    """Every file the run will read and every folder it will write, named on the command line."""
    if not args.mock_data:
        blends = blend.blends_of(args)
        if not blends:
            raise UserError("--data-path is missing: the prefix of a .bin and .idx pair")
        for prefix in (prefix for prefixes, _ in blends.values() for prefix in prefixes):
            for suffix in (".idx", ".bin"):
                _check_data_file(Path(prefix + suffix))
    for flag in ("save", "tensorboard_dir", "data_cache_path", "wandb_save_dir"):
        folder = getattr(args, flag)
        if folder and not folder.startswith(REMOTE):
            # A folder that cannot be written to would else show at the first save, after hours.
            check_folder(folder, f"--{flag.replace('_', '-')} {folder}")
    if args.tokenizer_type == "HuggingFaceTokenizer":
        folder = Path(args.tokenizer_model or "")
        if not (folder / "tokenizer_config.json").exists() and not _is_hub_name(folder):
            raise UserError(f"--tokenizer-model {folder}: no tokenizer_config.json there")
    for flag in ("load", "pretrained_checkpoint"):
        folder = getattr(args, flag)
        # Megatron starts from scratch when --load holds nothing; only resuming may mean that.
        if folder and not has_tracker(folder) and folder != args.save:
            tracker = Path(folder) / TRACKER
            raise UserError(f"--{flag.replace('_', '-')} {folder}: no checkpoint there ({tracker})")


def _check_data_file(path: Path) -> None:
    if not path.exists():
        raise UserError(f"--data-path: {path} does not exist; make it with preprocess_data.py")
    if path.stat().st_size == 0:
        raise UserError(f"--data-path: {path} is empty; run preprocess_data.py again")
    if path.suffix == ".idx" and not begins_as_index(path):
        raise UserError(
            f"--data-path: {path} is not an index of Megatron; run preprocess_data.py again"
        )


def _is_hub_name(path: Path) -> bool:
    """Whether this may be a model of the Hugging Face hub or of its local cache: owner/name."""
    return not path.is_absolute() and len(path.parts) == 2 and not path.parent.exists()
