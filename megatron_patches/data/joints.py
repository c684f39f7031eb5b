# SPDX-License-Identifier: Apache-2.0
"""Joints of training windows: where placements such as ``sentences`` and ``turns`` may cut them.

Every pipeline stage positions its own layers, and those in the middle get no tokens. So each stage
reads the data, whose samples carry marks of their joints, and the first tensor rank of a stage
sends the marks to the others.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from e2_common.errors import UserError
from e2_llm.config import E2Config
from e2_llm.methods import method_for
from e2_llm.placements.joints import FLAG
from megatron_patches.data.blend import Part
from megatron_patches.data.loss_mask import values_of

if TYPE_CHECKING:
    from megatron_patches.data.datasets import WindowDataset

MARKS = "joints"  # of a sample: uint8 [s]
END_MARKS = (".", "!", "?", "。", "！", "？")

Joints = Mapping[str, np.ndarray]  # of a window: kind -> its joints, ascending


def ends_sentence(text: str) -> bool:
    """Whether a token of this text ends a sentence, blanks behind its mark left aside."""
    kept = text.rstrip()
    return kept.endswith(END_MARKS) or "\n" in text[len(kept) :]


def sentence_ends(tokenizer: Any, ids: str | None = None) -> np.ndarray:
    """The ids of the tokens that end a sentence, ascending.

    Args:
        tokenizer: Megatron's. Its whole vocabulary is read, once a process.
        ids: a JSON list of ids, to take instead of the tokenizer's.

    Raises:
        UserError: the tokenizer turns no ids into text.
    """
    if ids is not None:
        return np.array(json.loads(ids), np.int64)
    key = json.dumps(tokenizer.unique_identifiers, default=str)
    if key not in _ENDS:
        known = range(tokenizer.vocab_size)
        _ENDS[key] = np.array([i for i in known if ends_sentence(_text(tokenizer, i))], np.int64)
    return _ENDS[key]


_ENDS: dict[str, np.ndarray] = {}  # by what Megatron tells tokenizers apart by


def _text(tokenizer: Any, index: int) -> str:
    try:
        return tokenizer.detokenize([index])
    except LookupError:  # a hole in the vocabulary
        return ""
    except (AttributeError, NotImplementedError) as error:
        raise UserError(
            "--e2-placement: this tokenizer turns no ids into text, so the tokens that end a "
            f"sentence have to be named with {FLAG} FILE"
        ) from error


def _sentences(dataset: "WindowDataset", index: int, text: np.ndarray) -> np.ndarray:
    """Whether a sentence ends with a token."""
    return np.isin(text, dataset.sentence_ends)


def _turns(dataset: "WindowDataset", index: int, text: np.ndarray) -> np.ndarray:
    """Whether the loss mask of the dataset changes behind a token."""
    if dataset.loss_mask is None:
        return np.zeros(len(text), bool)
    counts = values_of(dataset, dataset.loss_mask, index) == 1
    return np.append(counts[:-1] != counts[1:], False)


# Of each kind, after which tokens of a window its joints lie: bool [s + 1] of int64 [s + 1].
KINDS: dict[str, Callable[["WindowDataset", int, np.ndarray], np.ndarray]] = {
    "sentences": _sentences,
    "turns": _turns,
}
_BITS = {kind: 1 << number for number, kind in enumerate(KINDS)}


def marks_of(dataset: "WindowDataset", index: int | None) -> Tensor:
    """The marks of a window: at each token a bit of every kind of joint that it is.

    A document that begins within the window begins with a joint of every kind.

    Args:
        dataset: what the window comes from; its configuration says which kinds are needed.
        index: of the window; None for one that fills up a batch.

    Returns:
        uint8 [s].
    """
    marks = np.zeros(dataset.config.sequence_length, np.uint8)
    if index is not None:
        text, _, lengths = dataset._query_document_sample_shuffle_indices(index)
        last_of_document = np.zeros(len(text), bool)
        last_of_document[np.cumsum(lengths) - 1] = True
        for kind in dataset.config.joints:
            ends = last_of_document | KINDS[kind](dataset, index, text)
            marks[1:][ends[: len(marks) - 1]] |= _BITS[kind]
    return torch.from_numpy(marks)


def receive(sample: Mapping[str, Tensor] | None, shape: tuple[int, int]) -> list[Joints]:
    """The joints of a micro-batch, the same on every rank of a tensor-parallel group.

    Args:
        sample: of the data, on the first rank of the group; None on the others.
        shape: b, s; s over all context-parallel ranks.

    Returns:
        Those of each window.
    """
    from megatron.core import mpu

    group = mpu.get_tensor_model_parallel_group()
    device = torch.cuda.current_device()
    # int32: what Megatron itself sends of the ends of documents, by every backend.
    marks = torch.empty(shape, dtype=torch.int32, device=device)
    if sample is not None:
        marks.copy_(sample[MARKS], non_blocking=True)
    if group.size() > 1:
        torch.distributed.broadcast(marks, mpu.get_tensor_model_parallel_src_rank(), group=group)
    # Places are made on the host. The first rank has the marks there, the others wait for them.
    rows = (marks if sample is None else sample[MARKS]).cpu()
    return [
        {kind: np.flatnonzero(found.numpy()) for kind, found in by_kind(row).items()}
        for row in rows
    ]


def by_kind(marks: Tensor) -> dict[str, Tensor]:
    """Where the joints of each kind lie, from :func:`marks_of`: kind -> uint8 or int32 [s]."""
    return {kind: marks & bit for kind, bit in _BITS.items()}


def check(
    args: argparse.Namespace, config: E2Config, parts: Sequence[Part], tokenizer: Any = None
) -> str | None:
    """Refuse a placement whose joints no window of this run could have.

    Args:
        args: Megatron's, validated.
        config: of the positions.
        parts: of the blend.
        tokenizer: of the run; default: the one that Megatron has built.

    Returns:
        A line for the report; None if the run needs no joints.

    Raises:
        UserError: naming the flag.
    """
    kinds = method_for(config).joints
    if not kinds:
        return None
    placement = f"--e2-placement {config.placement}"
    if args.mock_data:
        raise UserError(f"{placement}: cuts a text where it ends something; drop --mock-data")
    found = []
    if "sentences" in kinds:
        ends = _check_sentence_ends(args, config, placement, tokenizer)
        found.append(f"{ends} tokens end a sentence")
    if "turns" in kinds:
        if args.ignore_loss_masks:
            raise UserError(
                f"{placement}: turns end where a loss mask changes; drop --ignore-loss-masks"
            )
        trained = [part for part in parts if part.split in ("all", "train")]
        masked = sum(part.loss_mask for part in trained)
        if not masked:
            raise UserError(
                f"{placement}: turns end where a loss mask changes, and no training dataset has "
                "one beside it; make it with preprocess_data.py --loss-mask-key"
            )
        found.append(f"{masked} of {len(trained)} datasets have turns")
    return "; ".join(found)


def _check_sentence_ends(
    args: argparse.Namespace, config: E2Config, placement: str, tokenizer: Any
) -> str:
    from megatron.training import get_tokenizer

    ends = sentence_ends(tokenizer or get_tokenizer(), config.sentence_ends)
    if not len(ends):
        raise UserError(
            f"{placement}: no token of the tokenizer ends a sentence; name the tokens that do with "
            f"{FLAG} FILE"
        )
    if ends[-1] >= args.padded_vocab_size:
        raise UserError(
            f"{FLAG}: holds the id {ends[-1]}, but the vocabulary has {args.padded_vocab_size} "
            "tokens; write ids of --tokenizer-model"
        )
    return f"{len(ends):,} of {args.padded_vocab_size:,}"
