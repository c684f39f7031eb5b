# SPDX-License-Identifier: Apache-2.0
"""Builds the datasets of a run without Megatron's arguments."""

from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder

from megatron_patches.data.datasets import WindowDataset, WindowDatasetConfig


class Tokenizer:
    """As much of Megatron's as a dataset asks for."""

    eod, pad, vocab_size = 0, -1, 10_000
    unique_identifiers = {"class": "Tokenizer"}


def build(*prefixes, window, split="100,0,0", sizes=(20, 0, 0), **options):
    """The datasets of the three splits, of windows of so many tokens."""
    config = WindowDatasetConfig(
        random_seed=3,
        sequence_length=window,
        blend=([str(prefix) for prefix in prefixes], [1.0 for _ in prefixes]),
        split=split,
        tokenizer=Tokenizer(),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        mid_level_dataset_surplus=0.0,
        **options,
    )
    return BlendedMegatronDatasetBuilder(WindowDataset, list(sizes), lambda: True, config).build()
