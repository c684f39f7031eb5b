# SPDX-License-Identifier: Apache-2.0
"""Datasets: Megatron's GPT dataset with loss masks and joints."""

import argparse
import hashlib
import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig, MockGPTDataset
from megatron.core.datasets.indexed_dataset import IndexedDataset
from megatron.core.datasets.utils import Split
from megatron.core.tokenizers.utils.build_tokenizer import build_tokenizer
from megatron.training import get_args, print_rank_0
from megatron.training.utils import get_blend_and_blend_per_split
from torch import Tensor

from e2_common.errors import UserError
from megatron_patches.data import joints
from megatron_patches.data.batches import is_built_on_rank
from megatron_patches.data.loss_mask import masked, open_loss_mask


@dataclass
class WindowDatasetConfig(GPTDatasetConfig):
    """Megatron's configuration of a dataset, and ours."""

    use_loss_masks: bool = True
    """Whether a loss mask beside the dataset counts."""

    joints: tuple[str, ...] = ()
    """The kinds of joints that are marked in each window."""

    sentence_ends: str | None = None
    """The tokens that end a sentence, as a JSON list of ids; None: those of the tokenizer."""


class WindowDataset(GPTDataset):
    """Megatron's GPT dataset with loss masks, that refuses an empty split.

    Over such a split the parent loops for ever. With few documents a small share of ``--split``
    rounds to none of them. A split of which nothing is wanted is not looked into.

    Raises:
        UserError: windows are wanted of a split that holds no tokens, or the loss mask beside the
            dataset is not its own.
    """

    def __init__(
        self,
        indexed_dataset: IndexedDataset,
        dataset_path: str | None,
        indexed_indices: np.ndarray,
        num_samples: int | None,
        index_split: Split,
        config: WindowDatasetConfig,
    ) -> None:
        tokens = int(indexed_dataset.sequence_lengths[indexed_indices].sum())
        if num_samples != 0 and tokens < 2:
            raise UserError(
                f"--split {config.split}: no text of {dataset_path} is left for the "
                f"{index_split.name} split; give it a larger share, or --eval-iters 0"
            )
        super().__init__(
            indexed_dataset, dataset_path, indexed_indices, num_samples, index_split, config
        )
        self.loss_mask = None
        if config.use_loss_masks and dataset_path is not None:
            self.loss_mask = open_loss_mask(dataset_path, indexed_dataset, config.mmap_bin_files)
        if "sentences" in config.joints:
            self.sentence_ends = joints.sentence_ends(config.tokenizer, config.sentence_ends)

    def _build_document_sample_shuffle_indices(self) -> tuple[np.ndarray, ...]:
        """Megatron's indices, cached under a name that knows the content of the dataset.

        Megatron's own knows its path alone: a dataset written anew there would be read through the
        indices of the old one.
        """
        if self.num_samples == 0:
            nothing = np.empty(0, np.int32)
            return nothing, np.zeros((1, 2), np.int32), nothing
        lengths = np.ascontiguousarray(self.dataset.sequence_lengths[self.indices])
        digest = hashlib.blake2b(lengths.data, digest_size=16)
        digest.update(np.ascontiguousarray(self.indices).data)
        self.unique_identifiers["content"] = digest.hexdigest()
        # As MegatronDataset.__init__ makes them.
        self.unique_description = json.dumps(
            self.unique_identifiers, indent=4, default=lambda item: item.unique_identifiers
        )
        self.unique_description_hash = hashlib.md5(
            self.unique_description.encode("utf-8"), usedforsecurity=False
        ).hexdigest()
        return super()._build_document_sample_shuffle_indices()

    def __getitem__(self, idx: int | None) -> dict[str, Tensor]:
        """Return a window, ``loss_mask`` [s] 0 where the dataset's loss mask is, and its marks."""
        sample = super().__getitem__(idx)
        if self.loss_mask is not None and idx is not None:
            sample["loss_mask"] = masked(self, self.loss_mask, idx, sample["loss_mask"])
        if self.config.joints:
            sample[joints.MARKS] = joints.marks_of(self, idx)
        return sample


def dataset_config(args: argparse.Namespace, seq_length: int) -> WindowDatasetConfig:
    """Megatron's dataset configuration for windows of ``seq_length`` tokens."""
    blend, blend_per_split = get_blend_and_blend_per_split(args)
    return WindowDatasetConfig(
        random_seed=args.seed,
        sequence_length=seq_length,
        blend=blend,
        blend_per_split=blend_per_split,
        split=args.split,
        multiple_validation_sets=args.multiple_validation_sets,
        full_validation=args.full_validation,
        num_dataset_builder_threads=args.num_dataset_builder_threads,
        path_to_cache=args.data_cache_path,
        mmap_bin_files=args.mmap_bin_files,
        tokenizer=build_tokenizer(args),
        reset_position_ids=args.reset_position_ids,
        reset_attention_mask=args.reset_attention_mask,
        inter_document_masking=args.dataloader_inter_document_masking,
        eod_mask_loss=args.eod_mask_loss,
        create_attention_mask=args.create_attention_mask_in_dataloader,
        object_storage_cache_path=args.object_storage_cache_path,
        mid_level_dataset_surplus=args.mid_level_dataset_surplus,
        allow_ambiguous_pad_tokens=args.allow_ambiguous_pad_tokens,
        fast_cache_load=args.dataloader_fast_cache_load,
        defer_npy_index_mmap=args.dataloader_defer_npy_index_mmap,
        context_parallel_size=args.context_parallel_size,
        data_parallel_size=args.data_parallel_size,
        sequence_parallel_size=args.tensor_model_parallel_size * args.sequence_parallel,
        use_loss_masks=not args.ignore_loss_masks,
        joints=tuple(args.window_joints),
        sentence_ends=args.e2_sentence_ends,
    )


def train_valid_test_datasets(
    num_samples: list[int], vp_stage: int | None = None
) -> list[GPTDataset | None]:
    """The provider that ``pretrain`` calls for its three datasets.

    Args:
        num_samples: wanted of each split.
        vp_stage: virtual pipeline stage for which the datasets are built.

    Raises:
        UserError: the validation split does not hold a window that will be asked of it.
    """
    args = get_args()
    print_rank_0("> building train, validation, and test datasets ...")
    datasets = _build(args, num_samples, dataset_config(args, args.seq_length), vp_stage)
    if num_samples[Split.valid.value]:
        # Their own datasets are built at the first evaluation, which may be hours away.
        for window in args.e2_validation_windows or ():
            require_window(datasets[Split.valid.value], window)
    # Megatron would ask at least one window of a blend that was built for none.
    return [
        dataset if wanted != 0 else None
        for dataset, wanted in zip(datasets, num_samples, strict=True)
    ]


# The blended datasets decide by themselves on which ranks to build.
train_valid_test_datasets.is_distributed = True


def validation_dataset(
    args: argparse.Namespace, seq_length: int, num_samples: int, vp_stage: int | None = None
) -> GPTDataset | None:
    """The validation split again, cut into windows of another length.

    Args:
        args: Megatron's.
        seq_length: tokens of a window.
        num_samples: windows wanted.
        vp_stage: virtual pipeline stage for which it is built.

    Raises:
        UserError: the split does not hold one such window.
    """
    config = dataset_config(args, seq_length)
    config.full_validation = False
    if config.blend_per_split:
        config.blend_per_split = [None, config.blend_per_split[Split.valid.value], None]
    else:
        config.split_matrix = [None, config.split_matrix[Split.valid.value], None]
    dataset = _build(args, [0, num_samples, 0], config, vp_stage)[Split.valid.value]
    require_window(dataset, seq_length)
    return dataset


def require_window(dataset: Any, window: int) -> None:
    """Check that a validation split holds a window of so many tokens.

    Raises:
        UserError: it does not.
    """
    tokens = _tokens_of(dataset)
    if tokens is not None and tokens <= window:
        raise UserError(
            f"--e2-validation-windows {window}: the validation split holds only {tokens} "
            "tokens; give it more (--split, --valid-data-path) or leave this window out"
        )


def _build(
    args: argparse.Namespace,
    num_samples: list[int],
    config: GPTDatasetConfig,
    vp_stage: int | None,
) -> list[GPTDataset | None]:
    kind = MockGPTDataset if args.mock_data else WindowDataset
    is_built = partial(is_built_on_rank, vp_stage=vp_stage)
    return BlendedMegatronDatasetBuilder(kind, num_samples, is_built, config).build()


def _tokens_of(dataset: Any) -> int | None:
    """Tokens of one pass over a dataset; None where it is not built or made up."""
    if dataset is None or isinstance(dataset, MockGPTDataset):
        return None
    parts = getattr(dataset, "datasets", [dataset])  # a blend holds several
    return sum(int(part.dataset.sequence_lengths[part.indices].sum()) for part in parts)
