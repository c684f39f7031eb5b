# SPDX-License-Identifier: Apache-2.0
"""Writes safetensors shards, holding about one shard in memory at a time."""

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from huggingface_hub import StateDictSplit, split_state_dict_into_shards_factory
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from megatron_patches.errors import UserError
from tools.checkpoint.hf_config import write_json
from tools.checkpoint.llama import Move
from tools.checkpoint.torch_dist import TorchDistReader


def plan_shards(moves: Iterable[Move], dtype: torch.dtype, max_shard_size: str) -> StateDictSplit:
    """Decide which tensor goes into which file; nothing is read.

    Args:
        moves: all of the model.
        dtype: of the tensors to write.
        max_shard_size: such as "5GB".

    Raises:
        UserError: ``max_shard_size`` is not a size.
    """
    sizes = {
        name: math.prod(shape) * dtype.itemsize
        for move in moves
        for name, shape in move.target_shapes().items()
    }
    try:
        return split_state_dict_into_shards_factory(
            sizes,
            get_storage_size=lambda size: size,
            filename_pattern="model{suffix}.safetensors",
            max_shard_size=max_shard_size,
        )
    except ValueError as error:
        raise UserError(f"--max-shard-size {max_shard_size}: write it as 5GB or 500MB") from error


def write_weights(
    folder: Path,
    reader: TorchDistReader,
    moves: Iterable[Move],
    split: StateDictSplit,
    dtype: torch.dtype,
) -> None:
    """Stream all tensors into safetensors files, and an index if there are several.

    Args:
        folder: an existing folder.
        reader: of the checkpoint.
        moves: all of the model.
        split: from :func:`plan_shards`.
        dtype: of the tensors to write.

    Raises:
        UserError: the checkpoint is damaged, or a value is too large for ``dtype``.
    """
    pending: dict[str, dict[str, Tensor]] = {name: {} for name in split.filename_to_tensors}
    total = split.metadata["total_size"]
    with tqdm(total=total, unit="B", unit_scale=True, desc="weights") as bar:
        for move in moves:
            for name, tensor in move.split(reader.read(move.source, move.layer)).items():
                file = split.tensor_to_filename[name]
                pending[file][name] = cast(tensor, dtype, name)
                bar.update(tensor.numel() * dtype.itemsize)
                if len(pending[file]) == len(split.filename_to_tensors[file]):
                    save_file(pending.pop(file), folder / file, metadata={"format": "pt"})
                    (folder / file).chmod(0o644)  # safetensors leaves it readable to us alone
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(folder / "model.safetensors.index.json", index)


def cast(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """Return a contiguous copy in ``dtype`` that shares no storage.

    Raises:
        UserError: a finite value would become infinite.
    """
    result = tensor.to(dtype, copy=True, memory_format=torch.contiguous_format)
    if dtype == torch.float16 and result.isinf().any() and not tensor.isinf().any():
        raise UserError(f"--dtype fp16: {name} holds values too large for it; take bf16 or fp32")
    return result
