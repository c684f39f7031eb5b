# SPDX-License-Identifier: Apache-2.0
"""Loss masks in training: which tokens of a dataset count in the loss.

``tools/preprocess_data.py --loss-mask-key`` writes them, see :mod:`e2_common.disk.loss_mask`.
"""

import argparse
import copy
from typing import TYPE_CHECKING

import numpy as np

from e2_common.disk.loss_mask import SUFFIX, has_loss_mask, require_same_sequences

if TYPE_CHECKING:
    from megatron.core.datasets.gpt_dataset import GPTDataset
    from megatron.core.datasets.indexed_dataset import IndexedDataset
    from torch import Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flag of this module."""
    parser.add_argument(
        "--ignore-loss-masks",
        action="store_true",
        help="train on every token, also of datasets with a loss mask beside them "
        f"(PREFIX{SUFFIX}.bin and .idx)",
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


def values_of(dataset: "GPTDataset", mask: "IndexedDataset", index: int) -> np.ndarray:
    """The loss mask of each token of a window, and of the one behind it where a label needs it.

    Args:
        dataset: what the window comes from.
        mask: the loss mask of the indexed dataset under it.
        index: of the window.

    Returns:
        int64 [s + 1]: 1 where a token counts, anything else where it does not or is padding.
    """
    # The same window of the mask: the indices are the dataset's, the bytes the mask's.
    twin = copy.copy(dataset)
    twin.dataset = mask
    return twin._query_document_sample_shuffle_indices(index)[0]


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
    values = values_of(dataset, mask, index)
    if dataset.config.add_extra_token_to_sequence:
        values = values[1:]
    else:
        values = np.append(values[1:], 0)
    return loss_mask * loss_mask.new_tensor(values == 1)
