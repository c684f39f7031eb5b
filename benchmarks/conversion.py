# SPDX-License-Identifier: Apache-2.0
"""Convert a random model of a given shape to Megatron and back: time, memory, every byte.

    python benchmarks/conversion.py --work DIR [--shape llama2-7b] [--dtype bf16]

DIR needs room for three copies of the model and is left empty. Prints a Markdown table; beside each
conversion stands a plain ``cp`` of the same files, timed just before it, both until the data is on
the disk. Peak memory is the largest resident set of the converter's process.
"""

import filecmp
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from e2_common.errors import UserError, exit_on_user_error
from e2_common.json_file import write_json
from e2_common.model_sizes import ModelSizes
from e2_common.progress import progress_bar
from e2_tools.arguments import command_parser
from e2_tools.planning.models import MODELS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from e2_tools.checkpoint.tensor_rules import Shape

ROOT = Path(__file__).resolve().parents[1]
SHAPES = {
    "tiny": ModelSizes(2, 64, 96, 4, 2, 16, 256, 256, tied=False),
    "smollm2-135m": replace(MODELS["smollm2-135m"].sizes, tied=False),
    "tinyllama-1.1b": ModelSizes(22, 2048, 5632, 32, 4, 64, 32000, 32000, tied=False),
    "llama2-7b": MODELS["llama2-7b"].sizes,
    "llama2-13b": MODELS["llama2-13b"].sizes,
}


@exit_on_user_error
def main() -> None:
    """Make the model, convert it both ways, print the table."""
    parser = command_parser(__doc__)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="empty or absent")
    parser.add_argument("--shape", choices=SHAPES, default="llama2-7b")
    parser.add_argument("--dtype", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--max-shard-size", default="5GB")
    args = parser.parse_args()
    if args.work.exists() and any(args.work.iterdir()):
        raise UserError(f"--work {args.work}: is not empty; name another folder")
    args.work.mkdir(parents=True, exist_ok=True)
    try:
        print(measure(args.work, args.shape, args.dtype, args.max_shard_size))
    finally:
        for path in args.work.iterdir():
            shutil.rmtree(path)


def measure(work: Path, shape: str, dtype: str, max_shard_size: str) -> str:
    """Run everything in ``work``; returns the table."""
    source, megatron, back, copy = (work / name for name in ("hf", "megatron", "back", "copy"))
    size = make_model(source, shape, dtype, max_shard_size)
    rows = []
    commands = {
        "Hugging Face to Megatron": (
            source,
            ["convert_hf_to_megatron.py", "--hf-model", source, "--save", megatron],
        ),
        "Megatron to Hugging Face": (
            megatron,
            ["convert_megatron_to_hf.py", "--load", megatron, "--hf-model", source]
            + ["--save", back, "--max-shard-size", max_shard_size],
        ),
    }
    for name, (folder, (script, *flags)) in commands.items():
        copying, _ = run(["cp", "-r", str(folder), str(copy)])
        shutil.rmtree(copy)
        converting, peak = run([sys.executable, str(ROOT / "tools" / script), *map(str, flags)])
        rows.append(
            f"| {name} | {size / 1e9:.2f} GB | {converting:.1f} s | {copying:.1f} s | "
            f"{copying / converting:.0%} | {peak / 1e9:.2f} GB |"
        )
    for path in sorted(source.glob("*.safetensors")):
        if not filecmp.cmp(path, back / path.name, shallow=False):
            raise UserError(f"{back / path.name}: differs from {path}")
    head = "| | weights | time | `cp` of the same files | throughput, share of `cp` | peak memory |"
    return "\n".join([head, "|---|---:|---:|---:|---:|---:|", *rows, "", "Every byte came back."])


def run(command: list[str]) -> tuple[float, int]:
    """Run a command until its output is on the disk; returns seconds and peak memory in bytes."""
    os.sync()
    started = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    os.sync()
    if process.returncode:
        raise UserError(f"{' '.join(command)}: failed")
    return time.monotonic() - started, usage.ru_maxrss * 1024


def make_model(folder: Path, shape: str, dtype: str, max_shard_size: str) -> int:
    """Write a Llama of random bits tensor by tensor; returns its bytes."""
    import torch
    from huggingface_hub import split_state_dict_into_shards_factory
    from transformers import LlamaConfig

    from e2_tools.checkpoint.families import FAMILIES
    from e2_tools.checkpoint.safetensors_stream import SafetensorsStream

    sizes = SHAPES[shape]
    kind = {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    shapes = {}
    for rule, layer in FAMILIES["llama"].rules(sizes):
        parts = rule.split(torch.empty(rule.shape(sizes), device="meta"), sizes)
        prefix = "" if layer is None else f"model.layers.{layer}."
        shapes |= {f"{prefix}{n}": tuple(p.shape) for n, p in zip(rule.hf, parts, strict=True)}
    split = split_state_dict_into_shards_factory(
        {name: torch.Size(s).numel() * kind.itemsize for name, s in shapes.items()},
        get_storage_size=lambda size: size,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=max_shard_size,
    )
    folder.mkdir()
    torch.manual_seed(0)
    total = split.metadata["total_size"]
    with progress_bar(total, "B", "random model") as bar:
        for file, names in split.filename_to_tensors.items():
            announced = {name: shapes[name] for name in names}
            with SafetensorsStream(folder / file, announced, kind) as stream:
                for name in names:
                    tensor = random_bits(shapes[name], kind)
                    stream.write(name, tensor)
                    bar.update(tensor.nbytes)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(folder / "model.safetensors.index.json", index)
    LlamaConfig(
        **sizes.llama_config(4096),
        architectures=["LlamaForCausalLM"],
        dtype=str(kind).removeprefix("torch."),
    ).save_pretrained(folder)
    return total


def random_bits(shape: "Shape", kind: "torch.dtype") -> "Tensor":
    """A tensor of random bits: quicker than random numbers, and no bit of a file is then alike."""
    import torch

    size = torch.Size(shape).numel()
    words = torch.randint(0, 2**63 - 1, (-(-size * kind.itemsize // 8),))
    # Random bits would hold NaN and infinity too, which no model does.
    return words.view(kind)[:size].nan_to_num_(0, 0, 0).view(shape)


if __name__ == "__main__":
    main()
