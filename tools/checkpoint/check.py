# SPDX-License-Identifier: Apache-2.0
"""Checks an exported model: the files hold the checkpoint's values, and transformers loads them."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import torch
from huggingface_hub import StateDictSplit
from safetensors import safe_open

from megatron_patches.errors import UserError
from tools.checkpoint.hf_writer import cast
from tools.checkpoint.llama import Move
from tools.checkpoint.torch_dist import TorchDistReader

PROBE = 16  # tokens of the one forward pass


def check_export(
    folder: Path,
    reader: TorchDistReader,
    moves: Iterable[Move],
    split: StateDictSplit,
    dtype: torch.dtype,
) -> None:
    """Read everything back, then run one short window.

    Args:
        folder: the exported model.
        reader: of the checkpoint.
        moves: all of the model.
        split: which tensor lies in which file.
        dtype: of the written tensors.

    Raises:
        UserError: a written tensor differs from the checkpoint, transformers misses or does not
            expect a tensor, or the logits are not finite.
    """
    check_tensors(folder, reader, moves, split, dtype)
    check_loads(folder)


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


def check_loads(folder: Path) -> None:
    """Load the folder with transformers as it is and run one short window."""
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", output_loading_info=True, local_files_only=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(kind):
            raise UserError(f"--check: transformers reports {kind}: {sorted(info[kind])}")
    length = min(PROBE, model.config.max_position_embeddings)
    tokens = torch.arange(length)[None] % model.config.vocab_size  # [1, length]
    with torch.no_grad():
        logits = model(tokens).logits  # [1, length, vocabulary]
    if not logits.isfinite().all():
        raise UserError(
            "--check: the exported model's logits are not finite; did training diverge?"
        )
