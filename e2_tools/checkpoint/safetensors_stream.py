# SPDX-License-Identifier: Apache-2.0
"""Writes a safetensors file tensor by tensor, in any order: the same bytes as the library's.

The library's ``save_file`` wants all tensors at once, which for a shard are gigabytes. The format
(https://github.com/huggingface/safetensors#format): 8 bytes little-endian header length, a JSON
header padded by spaces to 8 bytes, the data.
"""

import json
import math
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from e2_tools.checkpoint.dtypes import SAFETENSORS
from e2_tools.checkpoint.tensor_rules import Shape

NAMES = {dtype: name for name, dtype in SAFETENSORS.items()}


class SafetensorsStream:
    """One file of tensors of one dtype; use it as a context manager.

    Args:
        path: to write.
        shapes: of all its tensors by name.
        dtype: of all its tensors.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, shapes: dict[str, Shape], dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.shapes = shapes
        self._left = set(shapes)
        self._offsets: dict[str, int] = {}
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name in sorted(shapes):
            begin, end = end, end + math.prod(shapes[name]) * dtype.itemsize
            self._offsets[name] = begin
            header[name] = {
                "dtype": NAMES[dtype],
                "shape": list(shapes[name]),
                "data_offsets": [begin, end],
            }
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        self._begin = 8 + len(text)
        self._file = path.open("wb")
        self._file.write(len(text).to_bytes(8, "little") + text)

    def write(self, name: str, tensor: Tensor) -> None:
        """Write one tensor.

        Raises:
            ValueError: it is of another shape or dtype than announced, or was written already.
        """
        announced = (self.shapes.get(name), self.dtype)
        if name not in self._left or (tuple(tensor.shape), tensor.dtype) != announced:
            raise ValueError(f"{name}: {tuple(tensor.shape)} {tensor.dtype} was not announced")
        self._left.remove(name)
        self._file.seek(self._begin + self._offsets[name])
        self._file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)

    @property
    def complete(self) -> bool:
        """Whether every tensor was written."""
        return not self._left

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "SafetensorsStream":
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()
        if kind is None and not self.complete:
            raise ValueError(f"tensors were not written: {', '.join(sorted(self._left))}")
