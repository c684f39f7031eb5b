# SPDX-License-Identifier: Apache-2.0
"""Loss masks that lie beside a dataset: which of its tokens count in the loss.

``tools/preprocess_data.py --loss-mask-key`` writes them as a second indexed dataset, ``uint8``
with the sequences and lengths of the tokens' own: 1 where a token is to be learnt, else 0.
"""

import argparse
import copy
import os
from typing import TYPE_CHECKING

import numpy as np

from e2_common.errors import UserError

if TYPE_CHECKING:
    from megatron.core.datasets.gpt_dataset import GPTDataset
    from megatron.core.datasets.indexed_dataset import IndexedDataset
    from torch import Tensor

SUFFIX = "_loss_mask"  # follows the prefix of the dataset that it belongs to


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flag of this module."""
    parser.add_argument(
        "--ignore-loss-masks",
        action="store_true",
        help="train on every token, also of datasets with a loss mask beside them "
        f"(PREFIX{SUFFIX}.bin and .idx)",
    )


def has_loss_mask(prefix: str) -> bool:
    """Whether a loss mask lies beside the dataset.

    Raises:
        UserError: only one of its two files does.
    """
    paths = [f"{prefix}{SUFFIX}{suffix}" for suffix in (".bin", ".idx")]
    missing = [path for path in paths if not os.path.exists(path)]
    if len(missing) == 1:
        raise UserError(f"--data-path {prefix}: {missing[0]} is missing; copy it too, or use "
                        "--ignore-loss-masks")  # fmt: skip
    return not missing


def require_same_sequences(prefix: str, tokens: np.ndarray, mask: np.ndarray) -> None:
    """Check that a loss mask is of the dataset that it lies beside.

    Args:
        prefix: path of the dataset, less .bin or .idx.
        tokens: lengths of its sequences, shape (sequences,).
        mask: lengths of the mask's.

    Raises:
        UserError: the lengths differ.
    """
    if not np.array_equal(mask, tokens):
        raise UserError(
            f"--data-path {prefix}: {prefix}{SUFFIX}.idx has other sequences than the dataset; "
            "make both with one run of preprocess_data.py, or use --ignore-loss-masks"
        )


def open_loss_mask(prefix: str, tokens: "IndexedDataset", mmap: bool) -> "IndexedDataset | None":
    """Open the loss mask beside a dataset, if there is one.

    Args:
        prefix: path of the dataset, less .bin or .idx.
        tokens: the dataset itself.
        mmap: whether to map the file.

    Raises:
        UserError: the mask is of other sequences.
    """
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    if not has_loss_mask(prefix):
        return None
    mask = IndexedDataset(f"{prefix}{SUFFIX}", multimodal=False, mmap=mmap)
    require_same_sequences(prefix, tokens.sequence_lengths, mask.sequence_lengths)
    return mask


def masked(
    dataset: "GPTDataset", mask: "IndexedDataset", index: int, loss_mask: "Tensor"
) -> "Tensor":
    """The loss mask [s] of a window, less the tokens whose own mask is 0.

    A position counts if the token it predicts, the next one, does.

    Args:
        dataset: what the window comes from.
        mask: the loss mask of the indexed dataset under it.
        index: of the window.
        loss_mask: [s], what counts otherwise (padding, for instance, does not).
    """
    # The same window of the mask: the indices are the dataset's, the bytes the mask's.
    twin = copy.copy(dataset)
    twin.dataset = mask
    values = twin._query_document_sample_shuffle_indices(index)[0]
    if dataset.config.add_extra_token_to_sequence:
        values = values[1:]
    else:
        values = np.append(values[1:], 0)
    return loss_mask * loss_mask.new_tensor(values == 1)
