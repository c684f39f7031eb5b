# SPDX-License-Identifier: Apache-2.0
"""What E2 costs: training steps with it beside the same steps with Megatron's own fixed RoPE.

    python benchmarks/step_overhead.py [--steps 60] [--output step_overhead.json]
    torchrun --nproc-per-node 8 benchmarks/step_overhead.py <flags> <any Megatron argument>

One model trains on made-up data. Every round runs each variant once, in random order, so that the
machine's moods hit all alike; a ratio is that of two steps of one round. "Megatron's RoPE again"
is the reference a second time: how far it is from +0 % is the noise.
"""

import argparse
import contextlib
import dataclasses
import io
import os
import random
import sys
from typing import Any

import numpy as np

from e2_common.errors import UserError, exit_on_user_error
from e2_common.outputs import OutputFile, check_output
from e2_common.provenance import command_line, commit, processor, versions
from e2_tools.arguments import check_counts, command_parser
from e2_tools.evaluation.result_file import write_results
from pretrain_e2 import as_single_process

SCHEMA = "e2-llm/step-overhead/1"
SAMPLE = "E2, a draw per sample"
# name -> fields of E2Config, or None for Megatron's own rotary module; the first is the reference.
# With YaRN g is a real number: every micro-batch then needs frequencies that it has not seen.
VARIANTS: dict[str, dict[str, Any] | None] = {
    "Megatron's RoPE": None,
    "Megatron's RoPE again": None,
    "E2": {},
    SAMPLE: {"draw_per": "sample"},
    "E2, YaRN frequencies": {"frequencies": "yarn", "scale_distribution": "log-uniform"},
}
WARM_UP = 3  # rounds that are not counted: optimizer state and memory pools come into being
RESAMPLES = 10_000  # of the bootstrap
# A small Llama; the sizes come from the command line.
MODEL = """
    --position-method none --position-embedding-type rope --normalization RMSNorm --swiglu
    --disable-bias-linear --untie-embeddings-and-output-weights --hidden-dropout 0
    --attention-dropout 0 --mock-data --tokenizer-type NullTokenizer --vocab-size 4095
    --num-workers 0 --lr 1e-5 --lr-decay-style constant --train-iters 1 --eval-iters 0
""".split()  # noqa: SIM905


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(
        __doc__,
        epilog="Any other argument goes to Megatron; pretrain_e2.py --help lists them.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--hidden-size", type=int, default=512, help="default: %(default)s")
    add("--head-dim", type=int, default=64, help="default: %(default)s")
    add("--num-layers", type=int, default=2, help="default: %(default)s")
    add("--seq-length", type=int, default=512, help="R, in tokens (default: %(default)s)")
    add("--micro-batch-size", type=int, default=2, help="default: %(default)s")
    add("--steps", type=int, default=60, help="timed of each variant (default: %(default)s)")
    add("--seed", type=int, default=1234, help="of weights, draws, order (default: %(default)s)")
    add(
        "--output",
        type=OutputFile,
        metavar="FILE.json",
        help="also write all that was measured there",
    )
    return parser


@exit_on_user_error
def main() -> None:
    """Train, time, tell."""
    options, others = build_parser().parse_known_args()
    check_counts(options, [name for name in vars(options) if name != "output"])
    if options.hidden_size % options.head_dim:
        raise UserError(
            f"--hidden-size {options.hidden_size}: not a multiple of --head-dim {options.head_dim}"
        )
    if options.output:
        check_output(options.output)
    command = command_line()  # Megatron changes it
    as_single_process()
    # Megatron tells hundreds of lines about itself; errors leave this block as exceptions.
    talk = io.StringIO()
    with contextlib.redirect_stdout(talk), contextlib.redirect_stderr(talk):
        measured = measure(options, megatron_arguments(options) + others)
    if os.environ["RANK"] == "0":
        result = {"schema": SCHEMA, "command": command, "seed": options.seed, **measured}
        print(table(result))
        if options.output:
            write_results(options.output, result)


def megatron_arguments(options: argparse.Namespace) -> list[str]:
    """The model and its training as arguments of Megatron."""
    ffn = -(-options.hidden_size * 8 // 3 // 64) * 64  # Llama's ratio
    sizes = {
        "--num-layers": options.num_layers,
        "--hidden-size": options.hidden_size,
        "--ffn-hidden-size": ffn,
        "--num-attention-heads": options.hidden_size // options.head_dim,
        "--seq-length": options.seq_length,
        "--max-position-embeddings": options.seq_length,
        "--micro-batch-size": options.micro_batch_size,
        "--seed": options.seed,
    }
    return MODEL + [str(word) for pair in sizes.items() for word in pair]


def measure(options: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    """Run ``megatron.training.pretrain`` with a train step that changes its positions.

    Args:
        options: of :func:`build_parser`.
        arguments: for Megatron.

    Returns:
        What the JSON holds of the run: machine, versions, model, and a row for each variant.

    Raises:
        UserError: Megatron refuses an argument.
    """
    from megatron_patches.runtime.prepare import prepare

    on_cpu = prepare()

    import torch
    from megatron.core.enums import ModelType
    from megatron.training import pretrain, training
    from megatron.training.argument_utils import pretrain_cfg_container_from_args

    from benchmarks.side_by_side import SideBySide, plain_forward_step
    from megatron_patches.data.datasets import train_valid_test_datasets
    from megatron_patches.model.build import model_config
    from megatron_patches.runtime.replace import replace
    from megatron_patches.start.arguments import parse_arguments

    sys.argv[1:] = arguments
    args, plain = parse_arguments(on_cpu)
    if plain.position_method != "none":
        raise UserError("--position-method: not here, every variant has its own; drop it")
    fields = dict(VARIANTS)
    if args.apply_rope_fusion and args.micro_batch_size > 1:
        del fields[SAMPLE]  # the fused kernel rotates all samples of a micro-batch alike
    configs = [
        None if given is None else dataclasses.replace(plain, position_method="e2", **given)
        for given in fields.values()
    ]
    order = interleaved(len(fields), WARM_UP + options.steps, options.seed)
    steps = SideBySide(training.train_step, configs, order, args.rank)
    replace(training, "train_step", steps)
    args.train_iters = len(order) + 1
    pretrain(
        pretrain_cfg_container_from_args(args, model_config(args, plain)),
        train_valid_test_datasets,
        ModelType.encoder_or_decoder,
        plain_forward_step,
    )
    steps.bar.close()
    ranks = torch.distributed.get_world_size()
    torch.distributed.destroy_process_group()
    seconds = by_variant(steps.seconds, order, len(fields))[:, WARM_UP:]
    return {
        "commit": commit(),
        "versions": versions(("torch", "megatron-core")),
        "hardware": hardware(on_cpu, ranks),
        "model": {
            "layers": args.num_layers,
            "hidden_size": args.hidden_size,
            "ffn_hidden_size": args.ffn_hidden_size,
            "heads": args.num_attention_heads,
            "head_dim": args.kv_channels,
            "vocabulary": args.padded_vocab_size,
            "window": args.seq_length,
            "micro_batch_size": args.micro_batch_size,
            "global_batch_size": args.global_batch_size,
            "dtype": str(args.params_dtype).removeprefix("torch."),
        },
        "variants": [
            {
                "name": name,
                "e2": given,
                "median_seconds": float(np.median(row)),
                "median_ratio": float(np.median(row / seconds[0])),
                "ratio_interval": bootstrap(row / seconds[0], options.seed),
                "seconds": row.round(6).tolist(),
            }
            for (name, given), row in zip(fields.items(), seconds, strict=True)
        ],
    }


def interleaved(variants: int, rounds: int, seed: int) -> list[int]:
    """Index of the variant of every step: each once a round, every round in an order of its own."""
    generator = random.Random(seed)
    return [i for _ in range(rounds) for i in generator.sample(range(variants), variants)]


def by_variant(seconds: list[float], order: list[int], variants: int) -> np.ndarray:
    """The times of the steps [variants, rounds], from those in the order in which they ran."""
    rounds = np.argsort(np.reshape(order, (-1, variants)), axis=1)
    return np.take_along_axis(np.reshape(seconds, (-1, variants)), rounds, axis=1).T


def bootstrap(values: np.ndarray, seed: int) -> list[float]:
    """Percentile bootstrap: the 95 % interval of the median of ``values`` [n]."""
    chosen = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    return np.quantile(np.median(values[chosen], axis=1), [0.025, 0.975]).tolist()


def hardware(on_cpu: bool, ranks: int) -> dict[str, Any]:
    """Name of the device, and how much of it was used."""
    import torch

    name = processor() if on_cpu else torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return {"device": name, "ranks": ranks, "cores": os.cpu_count(), "threads": threads}


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    lines = [
        "| step with | median time | more than the reference | 95 % interval |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in result["variants"]:
        ratios = [row["median_ratio"], *row["ratio_interval"]]
        middle, low, high = (f"{100 * (ratio - 1):+.2f} %" for ratio in ratios)
        time = f"{1000 * row['median_seconds']:.1f} ms"
        is_reference = row is result["variants"][0]
        difference = "reference |" if is_reference else f"{middle} | {low} … {high}"
        lines.append(f"| {row['name']} | {time} | {difference} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
