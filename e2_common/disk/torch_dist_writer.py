# SPDX-License-Identifier: Apache-2.0
"""Writes a Megatron ``torch_dist`` checkpoint tensor by tensor: no process group, no GPU.

The format is torch's distributed checkpoint, written by torch's own writer; only the plan is ours,
so that a tensor is made at the moment in which it is written. Global tensors are whole and layers
are stacked along a leading axis, a piece per layer, so it loads at any parallel layout.
"""

import argparse
import io
import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import FileSystemWriter, SavePlan, SavePlanner, save
from torch.distributed.checkpoint.default_planner import create_default_global_save_plan
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType

from e2_common.ahead import one_ahead
from e2_common.disk.checkpoint_folder import RELEASE, folder_of, track
from e2_common.disk.torch_dist_index import FORMAT

# Objects that Megatron's modules ask for on loading; without FP8 they hold nothing. The first four
# are what local layers have, Transformer Engine's layers have the others too.
EXTRA_STATES = (
    "self_attention.linear_proj",
    "self_attention.linear_qkv",
    "mlp.linear_fc1",
    "mlp.linear_fc2",
    "self_attention.core_attention",
)


@dataclass(frozen=True)
class Piece:
    """A tensor to write: the whole of a global one, or one layer of a stacked one.

    Attributes:
        name: of the global tensor.
        layer: of this piece, or None.
        shape: of this piece, without the layer axis.
        make: returns it, when it is written.
    """

    name: str
    layer: int | None
    shape: tuple[int, ...]
    make: Callable[[], Tensor]


def write_release(
    save_folder: Path,
    pieces: Iterable[Piece],
    layers: int,
    dtype: torch.dtype,
    args: argparse.Namespace,
    progress: Callable[[int], object] = lambda size: None,
) -> None:
    """Write a checkpoint that Megatron calls a release: weights without iteration or optimizer.

    Args:
        save_folder: existing; gets ``release/`` and the tracker file.
        pieces: all of the model.
        layers: of the model.
        dtype: of every tensor.
        args: stored as the run's arguments.
        progress: called with the bytes of each tensor once it was made.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = folder_of(save_folder, RELEASE)
    common = {
        "args": args,
        "checkpoint_version": 3.0,
        "iteration": 0,
        "num_floating_point_operations_so_far": 0,
        "content_metadata": {"singleton_local_shards": False, "chained_optim_avoid_prefix": True},
    }
    objects = {"common_state/shard_0_1": common}
    for name in EXTRA_STATES:
        for layer in range(layers):
            objects[f"decoder.layers.{name}._extra_state/shard_{layer}_{layers}"] = None
    planner = _StreamingPlanner(list(pieces), objects, layers, dtype, progress)
    # One thread, nothing copied ahead: the writer holds one tensor at a time, GPU or not.
    writer = FileSystemWriter(folder, thread_count=1, per_thread_copy_ahead=0)
    with warnings.catch_warnings():  # that there is no process group, which is what we want
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        save({}, storage_writer=writer, planner=planner, no_dist=True)
    metadata = {"sharded_backend": FORMAT, "sharded_backend_version": 1}
    (folder / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    track(save_folder, RELEASE)


def _maker(piece: Piece) -> Callable[[], Tensor]:
    return lambda: piece.make().contiguous()


class _StreamingPlanner(SavePlanner):
    """Plans every piece as a shard of its global tensor, and makes its data when asked for it."""

    def __init__(
        self,
        pieces: list[Piece],
        objects: dict[str, Any],
        layers: int,
        dtype: torch.dtype,
        progress: Callable[[int], object],
    ) -> None:
        self._pieces = {self._index(piece): piece for piece in pieces}
        self._objects = objects
        self._layers = layers
        self._dtype = dtype
        self._progress = progress
        # torch asks for the tensors in the order of the plan.
        self._made = zip(self._pieces, one_ahead(map(_maker, pieces)), strict=True)

    @staticmethod
    def _index(piece: Piece) -> MetadataIndex:
        if piece.layer is None:
            return MetadataIndex(piece.name, [0] * len(piece.shape))
        return MetadataIndex(piece.name, [piece.layer] + [0] * len(piece.shape))

    def set_up_planner(
        self, state_dict: Any, storage_meta: Any = None, is_coordinator: bool = False
    ) -> None:
        """Nothing to set up: the plan does not come from a state dict."""

    def create_local_plan(self) -> SavePlan:
        """The objects, then the tensors in the order given."""
        items = [WriteItem(MetadataIndex(key), WriteItemType.BYTE_IO) for key in self._objects]
        for index, piece in self._pieces.items():
            stacked = piece.layer is not None
            data = TensorWriteData(
                chunk=ChunkStorageMetadata(
                    offsets=index.offset,
                    sizes=torch.Size((1, *piece.shape) if stacked else piece.shape),
                ),
                properties=TensorProperties(dtype=self._dtype),
                size=torch.Size((self._layers, *piece.shape) if stacked else piece.shape),
            )
            items.append(WriteItem(index, WriteItemType.SHARD, tensor_data=data))
        return SavePlan(items)

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        """The plan of this one process, and the metadata of all tensors."""
        return create_default_global_save_plan(all_plans)

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        """Take the plan as it is."""
        return new_plan

    def resolve_data(self, write_item: WriteItem) -> Tensor | io.BytesIO:
        """Make the data of an item."""
        if write_item.type == WriteItemType.BYTE_IO:
            buffer = io.BytesIO()
            torch.save([self._objects[write_item.index.fqn]], buffer)  # a list, as Megatron's
            return buffer
        piece = self._pieces[write_item.index]
        index, tensor = next(self._made)  # piece.shape
        if index != write_item.index:
            raise RuntimeError(f"torch's writer asks for {write_item.index} before {index}")
        self._progress(tensor.nbytes)
        return tensor if piece.layer is None else tensor[None]  # [1, piece.shape]
