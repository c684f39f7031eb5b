# SPDX-License-Identifier: Apache-2.0
"""What a run trains on: Megatron's own windows in Megatron's own order, as samples of a Trainer."""

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2_common.disk.indexed_dataset import begins_as_index
from e2_common.errors import UserError
from e2_common.files import sha256_of
from e2_llm.config import E2Config
from e2_llm.methods import method_for
from e2_tools.corpus.quiet import quiet_imports
from e2_tools.tuning.arguments import our_flags
from transformers_patches.batch import JOINTS
from transformers_patches.collator import IGNORED


class Windows(torch.utils.data.Dataset):
    """The first windows of a dataset of Megatron's; sample i is window i.

    Args:
        dataset: with windows as :class:`megatron_patches.data.datasets.WindowDataset` has them.
        count: how many.
        apart: whether their documents do not see each other.
    """

    def __init__(self, dataset: Any, count: int, apart: bool = False) -> None:
        self.dataset, self.count, self.apart = dataset, count, apart

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample for :class:`transformers_patches.WindowCollator`."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        from megatron_patches.data import joints

        window: Mapping[str, Tensor] = self.dataset[index]
        labels = window["labels"].masked_fill(window["loss_mask"] == 0, IGNORED)
        sample: dict[str, Any] = {"input_ids": window["tokens"], "shift_labels": labels}
        if self.apart:
            sample["position_ids"] = window["position_ids"]
        if joints.MARKS in window:
            sample[JOINTS] = joints.by_kind(window[joints.MARKS])
        return sample


class Data:
    """The datasets of a run; built by :func:`open_data`, cut into windows by :meth:`windows`.

    Attributes:
        parts: of the blend, as Megatron's checkpoints store them.
        joints: a line for the report; None if the run needs no joints.
    """

    def __init__(self, args: argparse.Namespace, config: E2Config, tokenizer: Any) -> None:
        from megatron_patches.data import blend, joints

        self.args, self.config, self.tokenizer = args, config, tokenizer
        self.parts = blend.check_blends(args, args.padded_vocab_size)
        self.joints = joints.check(args, config, self.parts, tokenizer)

    def windows(self, length: int, training: int, validation: int) -> list[Windows | None]:
        """The windows of the training and of the validation split; None where none are wanted.

        Args:
            length: of a window, in tokens.
            training: how many windows; their order depends on it, as in Megatron.
            validation: likewise.

        Raises:
            UserError: a split holds no window.
        """
        from megatron.core.datasets.blended_megatron_dataset_builder import (
            BlendedMegatronDatasetBuilder,
        )
        from megatron.core.datasets.utils import get_blend_from_list

        from megatron_patches.data.datasets import WindowDataset, WindowDatasetConfig

        args, sizes = self.args, (training, validation, 0)
        config = WindowDatasetConfig(
            random_seed=args.seed,
            sequence_length=length,
            blend=get_blend_from_list(args.data_path),
            split=args.split,
            path_to_cache=args.data_cache_path,
            tokenizer=self.tokenizer,
            reset_position_ids=False,
            reset_attention_mask=False,
            inter_document_masking=args.dataloader_inter_document_masking,
            eod_mask_loss=args.eod_mask_loss,
            create_attention_mask=False,
            use_loss_masks=not args.ignore_loss_masks,
            joints=method_for(self.config).joints,
            sentence_ends=args.e2_sentence_ends,
        )
        built = BlendedMegatronDatasetBuilder(
            WindowDataset, list(sizes), lambda: True, config
        ).build()
        if validation and built[1] is None:
            raise UserError(
                f"--split {args.split}: leaves nothing to validate on; give the second share more, "
                "or --eval-iters 0"
            )
        return [
            Windows(dataset, count, config.inter_document_masking) if count else None
            for dataset, count in zip(built[:2], sizes, strict=False)
        ]


def open_data(args: argparse.Namespace, config: E2Config, tokenizer: Path | None) -> Data:
    """Check every dataset that the command line names.

    Args:
        args: with --data-path, or with --text made into it by :func:`tokenised`.
        config: of the positions.
        tokenizer: folder of the model's, if it has one.

    Raises:
        UserError: a dataset is missing, damaged or of another tokenizer; the placement finds no
            joints in it.
    """
    from megatron_patches.data import blend

    for prefixes, _ in blend.blends_of(args).values():
        for prefix in prefixes:
            _check_files(prefix)
    needs_text = "sentences" in method_for(config).joints and config.sentence_ends is None
    if tokenizer is None and needs_text:
        raise UserError(
            f"--e2-placement {config.placement}: --model {args.model} has no tokenizer that says "
            "which tokens end a sentence; name them with --e2-sentence-ends FILE"
        )
    with our_flags():
        return Data(args, config, _megatron_tokenizer(tokenizer))


def tokenised(args: argparse.Namespace, tokenizer: Path | None) -> str:
    """Tokenise the texts of --text, if that was not done before; return the dataset's prefix.

    Raises:
        UserError: there is no tokenizer, or a text cannot be read.
    """
    from e2_tools.checkpoint.tokenizer import FILES as TOKENIZER_FILES
    from e2_tools.corpus.inputs import find_sources
    from e2_tools.corpus.preprocess import Options, preprocess
    from e2_tools.corpus.tokenizer import HUGGING_FACE, load_megatron_tokenizer

    if tokenizer is None:
        raise UserError(f"--text: --model {args.model} has no tokenizer to read it with")
    with our_flags():
        paths = [Path(source.path).resolve() for source in find_sources(args.text)]
    known = [(str(path), path.stat().st_mtime_ns) for path in paths]
    reads = [(tokenizer / name) for name in TOKENIZER_FILES if (tokenizer / name).is_file()]
    known += [(path.name, sha256_of(path)) for path in reads]
    name = hashlib.sha256(repr([known, args.json_key]).encode()).hexdigest()[:12]
    prefix = args.checkpoint_dir / "data" / name
    result = f"{prefix}_{args.json_key}_document"
    if Path(f"{result}.idx").is_file():
        return result
    with our_flags():
        eod = load_megatron_tokenizer(HUGGING_FACE, str(tokenizer)).eod
        summary = preprocess(
            Options(
                input=args.text,
                output_prefix=str(prefix),
                tokenizer_type=HUGGING_FACE,
                tokenizer_model=str(tokenizer),
                json_keys=[args.json_key],
                append_eod=eod is not None,
                split_sentences=False,
                workers=1,
            )
        )
    print(f"> {summary}", flush=True)
    return result


def _check_files(prefix: str) -> None:
    for suffix in (".idx", ".bin"):
        path = Path(prefix + suffix)
        if not path.is_file() or path.stat().st_size == 0:
            raise UserError(
                f"--data-path: {path} is missing or empty; make it with preprocess_data.py"
            )
    if not begins_as_index(Path(f"{prefix}.idx")):
        raise UserError(f"--data-path: {prefix}.idx is not an index of Megatron")


class _NoTokenizer:
    """As much of Megatron's tokenizer as a dataset asks for, where a model has none."""

    eod, pad, vocab_size = -1, -1, None
    unique_identifiers = {"class": "NoTokenizer"}


def _megatron_tokenizer(folder: Path | None) -> Any:
    from e2_tools.corpus.tokenizer import HUGGING_FACE, load_megatron_tokenizer

    if folder is None:
        return _NoTokenizer()
    with quiet_imports():
        return load_megatron_tokenizer(HUGGING_FACE, str(folder)).model
