# SPDX-License-Identifier: Apache-2.0
"""Checks an exported model: the files hold the checkpoint's values, and both models agree."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import torch
from huggingface_hub import StateDictSplit
from safetensors import safe_open

from e2_common.disk.torch_dist_reader import TorchDistReader
from e2_common.errors import UserError
from e2_tools.checkpoint.compare_logits import compare_logits
from e2_tools.checkpoint.dtypes import cast
from e2_tools.checkpoint.tensor_moves import Move


def check_export(
    folder: Path,
    reader: TorchDistReader,
    moves: Iterable[Move],
    split: StateDictSplit,
    dtype: torch.dtype,
) -> None:
    """Read everything back, then compare the logits with Megatron's.

    Args:
        folder: the exported model.
        reader: of the checkpoint.
        moves: all of the model.
        split: which tensor lies in which file.
        dtype: of the written tensors.

    Raises:
        UserError: a written tensor differs from the checkpoint, transformers misses or does not
            expect a tensor, or the logits differ from Megatron's or are not finite.
        TooLittleMemory: of all this, only the logits were not checked.
    """
    check_tensors(folder, reader, moves, split, dtype)
    compare_logits(reader.folder, folder)


def check_tensors(
    folder: Path,
    reader: TorchDistReader,
    moves: Iterable[Move],
    split: StateDictSplit,
    dtype: torch.dtype,
) -> None:
    """Fuse the written tensors again and compare them, bit by bit, with the checkpoint's."""
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(safe_open(folder / name, framework="pt"))
            for name in split.filename_to_tensors
        }
        for move in moves:
            source = cast(reader.read(move.source, move.layer), dtype, move.source)
            parts = [
                files[split.tensor_to_filename[name]].get_tensor(name) for name in move.targets
            ]
            written = move.join(parts)
            if not torch.equal(_bits(written), _bits(source[: len(written)])):
                names = ", ".join(move.targets)
                raise UserError(f"--check: {names} differ from {move.source} of the checkpoint")


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8)  # as bytes, so that NaN equals NaN
