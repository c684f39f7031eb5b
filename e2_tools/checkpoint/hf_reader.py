# SPDX-License-Identifier: Apache-2.0
"""Reads a Hugging Face model's weights tensor by tensor: safetensors or ``.bin``, one file or many.

A file is mapped anew for every tensor, so that no more than that tensor stays resident.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from e2_common.errors import UserError
from e2_tools.checkpoint.dtypes import SAFETENSORS
from e2_tools.checkpoint.tensor_rules import Shape

# In the order in which transformers looks for them.
SINGLE = ("model.safetensors", "pytorch_model.bin")
INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
# Buffers that old checkpoints hold and no model reads.
BUFFERS = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|attn\.masked_bias|attn\.bias)$")
DAMAGED = "truncated or corrupt; copy or download it again"


class HFReader:
    """The weights of a Hugging Face folder.

    Attributes:
        shapes: of every tensor by name, buffers left out.
        dtypes: likewise.

    Args:
        folder: with one of ``single`` or ``index``.
        single: names of a file of all weights, the preferred one before the others.
        index: likewise of the list of several files.

    Raises:
        UserError: there are no weights, or a file is missing or damaged.
    """

    def __init__(
        self, folder: Path, *, single: Sequence[str] = SINGLE, index: Sequence[str] = INDEX
    ) -> None:
        self.folder = folder
        self.shapes: dict[str, Shape] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self._files: dict[str, Path] = {}
        expected = _weight_map(folder, single, index)
        for path in _weight_files(folder, expected, (*single, *index)):
            for name, (shape, dtype) in _describe(path).items():
                if BUFFERS.match(name):
                    continue
                self.shapes[name], self.dtypes[name] = shape, dtype
                self._files[name] = path
        lost = [name for name in expected if name not in self.shapes and not BUFFERS.match(name)]
        if lost:
            raise UserError(
                f"{folder}: its index names tensors that its files lack: {', '.join(lost)}"
            )

    def read(self, name: str) -> Tensor:
        """Read one tensor in its stored dtype.

        Raises:
            UserError: its file is damaged.
        """
        path = self._files[name]
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            try:
                with safe_open(path, framework="pt") as file:
                    return file.get_tensor(name)
            except Exception as error:  # SafetensorError, OSError, and what Rust panics with
                raise UserError(f"{path}: {DAMAGED}") from error
        return _load_bin(path)[name]

    def drop(self, name: str) -> None:
        """Forget a tensor that the model does not need."""
        for kept in (self.shapes, self.dtypes, self._files):
            kept.pop(name, None)


def _weight_map(folder: Path, single: Sequence[str], index: Sequence[str]) -> dict[str, str]:
    """The index's map of tensor to file; empty when there is no index."""
    if (folder / single[0]).is_file():
        return {}
    path = next((folder / name for name in index if (folder / name).is_file()), None)
    if path is None:
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["weight_map"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is no index of weights; {DAMAGED}") from error


def _weight_files(
    folder: Path, weight_map: dict[str, str], candidates: Sequence[str]
) -> list[Path]:
    if weight_map:
        paths = [folder / name for name in dict.fromkeys(weight_map.values())]
        lost = [path.name for path in paths if not path.is_file()]
        if lost:
            raise UserError(f"{folder}: weights are missing: {', '.join(lost)}")
        return paths
    for name in candidates:
        if (folder / name).is_file():
            return [folder / name]
    raise UserError(f"{folder}: holds no weights ({', '.join(candidates)})")


def _describe(path: Path) -> dict[str, tuple[Shape, torch.dtype]]:
    """Shape and dtype of every tensor of a file, without reading any."""
    if path.suffix != ".safetensors":
        return {name: (tuple(t.shape), t.dtype) for name, t in _load_bin(path).items()}
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: (tuple(part.get_shape()), SAFETENSORS[part.get_dtype()])
                for name, part in slices.items()
            }
    except KeyError as error:
        raise UserError(f"{path}: holds {error.args[0]} numbers, which are not weights") from error
    except Exception as error:
        raise UserError(f"{path}: {DAMAGED}") from error


def _load_bin(path: Path) -> dict[str, Tensor]:
    """Map a pickle of tensors; ``weights_only`` keeps it from running code."""
    try:
        try:
            return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)  # before torch 1.6
    except Exception as error:  # whatever a broken pickle or zip archive happens to raise
        raise UserError(f"{path}: {DAMAGED}") from error
