# SPDX-License-Identifier: Apache-2.0
"""Writes safetensors shards, holding about one tensor in memory at a time."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from huggingface_hub import StateDictSplit, split_state_dict_into_shards_factory

from e2_common.ahead import one_ahead
from e2_common.disk.torch_dist_reader import TorchDistReader
from e2_common.errors import UserError
from e2_common.json_file import write_json
from e2_common.progress import progress_bar
from e2_tools.checkpoint.dtypes import cast
from e2_tools.checkpoint.safetensors_stream import SafetensorsStream
from e2_tools.checkpoint.tensor_moves import Move


def plan_shards(moves: Sequence[Move], dtype: torch.dtype, max_shard_size: str) -> StateDictSplit:
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
    moves: Sequence[Move],
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
    shapes = {name: shape for move in moves for name, shape in move.target_shapes().items()}
    with ExitStack() as stack:
        files = {
            file: stack.enter_context(
                SafetensorsStream(folder / file, {name: shapes[name] for name in names}, dtype)
            )
            for file, names in split.filename_to_tensors.items()
        }
        bar = stack.enter_context(progress_bar(split.metadata["total_size"], "B", "weights"))
        read = (partial(reader.read, move.source, move.layer) for move in moves)
        for move, stored in zip(moves, one_ahead(read), strict=True):
            for name, tensor in move.split(stored).items():
                files[split.tensor_to_filename[name]].write(name, cast(tensor, dtype, name))
                bar.update(tensor.numel() * dtype.itemsize)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(folder / "model.safetensors.index.json", index)
