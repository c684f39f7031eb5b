# SPDX-License-Identifier: Apache-2.0
"""The files of a loss mask, which lie beside the dataset that it belongs to.

A mask is a second indexed dataset, ``uint8`` with the sequences and lengths of the tokens' own: 1
where a token is to be learnt, else 0.
"""

import os

import numpy as np

from e2_common.errors import UserError

SUFFIX = "_loss_mask"  # follows the prefix of the dataset


def mask_files(prefix: str) -> list[str]:
    """The paths of a dataset's mask, in the order in which they are to be removed."""
    return [f"{prefix}{SUFFIX}{suffix}" for suffix in (".idx", ".bin")]


def has_loss_mask(prefix: str) -> bool:
    """Whether a loss mask lies beside the dataset.

    Raises:
        UserError: only one of its two files does.
    """
    missing = [path for path in mask_files(prefix) if not os.path.exists(path)]
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
