# SPDX-License-Identifier: Apache-2.0
"""Reads a Hugging Face model's weights tensor by tensor: safetensors or ``.bin``, one file or many.

A file is mapped anew for every tensor, so that no more than that tensor stays resident.
"""

import json
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2_common.disk.pickles import ForeignNameError, check_names
from e2_common.errors import UserError
from e2_tools.checkpoint.dtypes import SAFETENSORS
from e2_tools.checkpoint.tensor_rules import Shape
from e2_tools.checkpoint.what_is_this import hint, quantised_hint

# In the order in which transformers looks for them: a file, or the index of several.
NAMES = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
# Buffers that old checkpoints hold and no model reads.
BUFFERS = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|attn\.masked_bias|attn\.bias)$")
# How torch says that a pickle names what it does not allow.
FOREIGN = re.compile(r"GLOBAL (\S+)")
HEAD = 2**24  # bytes of a pickle that torch does not read at all, in which names are looked for
DAMAGED = "truncated or corrupt; copy or download it again"


class HFReader:
    """The weights of a Hugging Face folder.

    Attributes:
        shapes: of every tensor by name, buffers left out.
        dtypes: likewise.

    Args:
        folder: with one of ``names``.
        names: of files of weights and of indices of them, the preferred one first.

    Raises:
        UserError: there are no weights, they are no plain numbers, or a file is missing or damaged.
    """

    def __init__(self, folder: Path, names: Sequence[str] = NAMES) -> None:
        self.folder = folder
        self.shapes: dict[str, Shape] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self._files: dict[str, Path] = {}
        paths, expected = _weight_files(folder, names)
        for path in paths:
            for name, (shape, dtype) in _describe(path).items():
                if BUFFERS.match(name):
                    continue
                if dtype not in SAFETENSORS.values():
                    raise UserError(
                        f"{path}: {name} holds {str(dtype).removeprefix('torch.')} numbers, which "
                        f"are not weights{quantised_hint(folder)}"
                    )
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


def has_weights(folder: Path) -> bool:
    """Whether a folder holds files of weights."""
    return any((folder / name).is_file() for name in NAMES)


def _weight_files(folder: Path, names: Sequence[str]) -> tuple[list[Path], dict[str, str]]:
    """The files of weights that transformers loads, and their index: tensor to file, if any."""
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise UserError(f"{folder}: holds no weights ({', '.join(names)}){hint(folder)}")
    if path.suffix != ".json":
        return [path], {}
    weight_map = _weight_map(path)
    paths = [folder / name for name in dict.fromkeys(weight_map.values())]
    lost = [path.name for path in paths if not path.is_file()]
    if lost:
        raise UserError(f"{folder}: weights are missing: {', '.join(lost)}")
    return paths, weight_map


def _weight_map(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: is no index of weights; {DAMAGED}") from error
    good = isinstance(found, dict) and found
    if not good or not all(isinstance(file, str) and "/" not in file for file in found.values()):
        raise UserError(f"{path}: is no index of weights; {DAMAGED}")
    return found


def _describe(path: Path) -> dict[str, tuple[Shape, Any]]:
    """Shape and dtype of every tensor of a file, without reading any.

    A dtype of safetensors that is none of weights is given by its name.
    """
    if path.suffix != ".safetensors":
        return {name: (tuple(t.shape), t.dtype) for name, t in _load_bin(path).items()}
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: (
                    tuple(part.get_shape()),
                    SAFETENSORS.get(part.get_dtype(), part.get_dtype()),
                )
                for name, part in slices.items()
            }
    except Exception as error:
        raise UserError(f"{path}: {DAMAGED}") from error


def _load_bin(path: Path) -> dict[str, Tensor]:
    """Map a pickle of tensors; ``weights_only`` keeps it from running code."""
    try:
        try:
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            content = torch.load(path, map_location="cpu", weights_only=True)  # before torch 1.6
    except pickle.UnpicklingError as error:
        foreign = _foreign_name(path, str(error))
        if foreign is None:
            raise UserError(f"{path}: {DAMAGED}") from error
        raise UserError(
            f"{path}: would call {foreign[:80]}, which no weights need; nothing was called, and "
            "nothing should load this file"
        ) from error
    except Exception as error:  # whatever a broken pickle or zip archive happens to raise
        raise UserError(f"{path}: {DAMAGED}") from error
    _require_tensors(content, path)
    return content


def _foreign_name(path: Path, reason: str) -> str | None:
    """What a refused pickle would call that is no tensor; None where it is only damaged."""
    found = FOREIGN.search(reason)
    if found:
        return found[1]
    try:
        with path.open("rb") as file:
            check_names(file.read(HEAD))
    except ForeignNameError as error:
        return str(error)
    except Exception:  # damaged, or no pickle at all
        return None
    return None


def _require_tensors(content: Any, path: Path) -> None:
    """Refuse a pickle that is no dictionary of tensors."""
    mend = "save the model with save_pretrained of transformers"
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__} instead of tensors; {mend}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(
                f"{path}: holds a {type(value).__name__} under {str(name)[:80]!r} instead of a "
                f"tensor; is it a checkpoint of a training? {mend}"
            )
