# SPDX-License-Identifier: Apache-2.0
"""What a run trains on: each dataset of its blend, checked before anything is built.

The blend is stored in the run's checkpoints, as ``data_blend`` among the arguments.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from e2_common.disk.indexed_dataset import Index, read_index
from e2_common.disk.loss_mask import SUFFIX, has_loss_mask, require_same_sequences
from e2_common.errors import UserError

# Ids read at the beginning, middle and end of a dataset, to see which tokenizer made it.
_SAMPLE = 100_000
# Prefixes of datasets that are not files here; Megatron reads them from object storage.
REMOTE = ("s3://", "msc://")


@dataclass(frozen=True)
class Part:
    """A dataset of a blend.

    Attributes:
        split: ``train``, ``valid``, ``test``, or ``all`` where --split divides it.
        prefix: the path, less .bin or .idx.
        weight: its share of the windows, from 0 to 1.
        documents: of the dataset; None of one that is not a file here.
        tokens: of the dataset, likewise.
        loss_mask: whether a loss mask applies.
    """

    split: str
    prefix: str
    weight: float
    documents: int | None
    tokens: int | None
    loss_mask: bool

    def __str__(self) -> str:
        facts = [f"{self.split} {self.weight:.1%} {self.prefix}"]
        if self.tokens is not None:
            facts += [f"{self.documents:,} documents", f"{self.tokens:,} tokens"]
        return ", ".join(facts + ["loss mask"] * self.loss_mask)


def blends_of(args: argparse.Namespace) -> dict[str, tuple[Sequence[str], Sequence[float] | None]]:
    """Return prefixes and weights (None: none given) by split; ``all`` if --split divides them.

    Args:
        args: Megatron's. A mock run has no blend.
    """
    from megatron.training.utils import get_blend_and_blend_per_split  # takes seconds

    if args.mock_data:
        return {}
    blend, per_split = get_blend_and_blend_per_split(args)
    if blend is not None:
        return {"all": blend}
    names = ("train", "valid", "test")
    return {name: part for name, part in zip(names, per_split or [], strict=False) if part}


def check_blends(args: argparse.Namespace, vocabulary: int | None) -> list[Part]:
    """Read the index of every dataset and the ids of some of it.

    Args:
        args: Megatron's. Without weights a dataset weighs as its tokens.
        vocabulary: number of ids that the model knows; None leaves ids unchecked.

    Raises:
        UserError: a dataset is missing, damaged, not a pair of files, or of another tokenizer.
    """
    return [
        part
        for split, (prefixes, weights) in blends_of(args).items()
        for part in _parts(split, prefixes, weights, vocabulary, not args.ignore_loss_masks)
    ]


def as_records(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return the blend as plain values, for a checkpoint."""
    return [asdict(part) for part in parts]


def changed_blend(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> str | None:
    """Say how the blend stored in a checkpoint differs from the run's; None if it does not.

    Folders do not matter: the same files may lie elsewhere.
    """
    old, new = ([_essence(part) for part in parts] for parts in (before, now))
    if old == new:
        return None
    return f"was trained on {_brief(old)}; this run's data is {_brief(new)}"


def _parts(
    split: str,
    prefixes: Sequence[str],
    weights: Sequence[float] | None,
    vocabulary: int | None,
    loss_masks: bool,
) -> list[Part]:
    indices = {prefix: _index(prefix, vocabulary) for prefix in prefixes}
    if weights is None:
        weights = [index.tokens if index else 1 for index in map(indices.get, prefixes)]
    total = sum(weights)
    if total <= 0:
        raise UserError(f"--data-path: the weights of the {split} datasets add up to {total:g}")
    parts = []
    for prefix, weight in zip(prefixes, weights, strict=True):
        index, masked = indices[prefix], False
        if index and loss_masks and has_loss_mask(prefix):
            masked = True
            require_same_sequences(prefix, index.lengths, read_index(prefix + SUFFIX).lengths)
        documents, tokens = (index.documents, index.tokens) if index else (None, None)
        parts.append(Part(split, prefix, weight / total, documents, tokens, masked))
    return parts


def _index(prefix: str, vocabulary: int | None) -> Index | None:
    if prefix.startswith(REMOTE):
        return None
    index = read_index(prefix)
    if vocabulary is not None and index.tokens:
        ids = np.memmap(f"{prefix}.bin", index.dtype, "r")
        last = max(len(ids) - _SAMPLE, 0)
        samples = [ids[start : start + _SAMPLE] for start in (0, last // 2, last)]
        smallest, largest = min(int(s.min()) for s in samples), max(int(s.max()) for s in samples)
        if smallest < 0:
            raise UserError(
                f"{prefix}.bin: holds the id {smallest}, and ids begin at 0; make it again with "
                "preprocess_data.py"
            )
        if largest >= vocabulary:
            raise UserError(
                f"{prefix}.bin: holds the id {largest}, but the vocabulary has {vocabulary} "
                "tokens; it was made with another tokenizer than --tokenizer-model"
            )
    return index


def _essence(part: dict[str, Any]) -> tuple:
    name = part["prefix"].rsplit("/", 1)[-1]
    weight = round(part["weight"], 6)
    return part["split"], name, weight, part["tokens"], part["loss_mask"]


def _brief(parts: list[tuple]) -> str:
    return ", ".join(
        f"{name} {weight:.1%} ({split}, {tokens} tokens{', loss mask' if masked else ''})"
        for split, name, weight, tokens, masked in parts
    )
