# SPDX-License-Identifier: Apache-2.0
"""Micro-batches, on the ranks that need them."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from megatron.core import mpu
from megatron.core.transformer.multi_token_prediction import mtp_on_this_rank
from megatron.core.utils import get_batch_on_this_cp_rank, get_batch_on_this_tp_rank
from megatron.training import get_args
from megatron.training.utils import is_first_or_last_pipeline_stage
from torch import Tensor

from megatron_patches.data.documents import Documents, documents_of
from megatron_patches.data.joints import Joints, receive


class Batch(NamedTuple):
    """One micro-batch, [b, s] each, mask [b, 1, s, s]; None is what a pipeline stage lacks.

    ``documents`` is None where the documents of a window see each other, ``joints`` where no
    placement needs them.
    """

    tokens: Tensor | None = None
    labels: Tensor | None = None
    loss_mask: Tensor | None = None
    attention_mask: Tensor | None = None
    position_ids: Tensor | None = None
    documents: Documents | None = None
    joints: Sequence[Joints] | None = None


TENSORS = ("tokens", "labels", "loss_mask", "attention_mask", "position_ids")
ENDS = ("cu_seqlens", "max_seqlen")  # of documents, if they are apart


def get_batch(
    data_iterator: Iterator[dict[str, Any]] | None,
    vp_stage: int | None,
    micro_batch_size: int,
    seq_length: int,
) -> Batch:
    """The next micro-batch, the same on every rank of a tensor-parallel group.

    Args:
        data_iterator: on the ranks that read data, see :func:`is_built_on_rank`.
        vp_stage: virtual pipeline stage of the model chunk.
        micro_batch_size: b.
        seq_length: s, over all context-parallel ranks.
    """
    args = get_args()
    apart = args.dataloader_inter_document_masking
    has_text = apart or is_first_or_last_pipeline_stage(vp_stage)
    if not (has_text or args.window_joints):
        return Batch()
    tp_rank = mpu.get_tensor_model_parallel_rank()
    sample = next(data_iterator) if tp_rank == 0 else None
    found = None
    if args.window_joints:
        found = receive(sample, (micro_batch_size, seq_length))
    if not has_text:
        return Batch(joints=found)
    batch: dict[str, Tensor | None] = {}
    if sample is not None:
        batch = dict.fromkeys(TENSORS + ENDS)
        batch |= {
            key: value.cuda(non_blocking=True) for key, value in sample.items() if key in batch
        }
    batch = get_batch_on_this_tp_rank(
        batch,
        has_cu_seqlens=apart,
        is_hybrid_cp=False,
        create_attention_mask_in_dataloader=args.create_attention_mask_in_dataloader,
        broadcast_src_rank=mpu.get_tensor_model_parallel_src_rank(),
        broadcast_group=mpu.get_tensor_model_parallel_group(),
        cp_size=args.context_parallel_size,
        tp_rank=tp_rank,
        micro_batch_size=micro_batch_size,
        seq_length=seq_length,
        # Heads for later tokens stand on the last stage, and embed the text once more.
        mtp_on_this_rank=mtp_on_this_rank(
            mtp_num_layers=args.mtp_num_layers, ignore_virtual=vp_stage is None, vp_stage=vp_stage
        ),
        pipeline_model_parallel_size=args.pipeline_model_parallel_size,
        is_pipeline_first_stage=mpu.is_pipeline_first_stage(),
        is_pipeline_last_stage=mpu.is_pipeline_last_stage(),
    )
    batch = get_batch_on_this_cp_rank(
        batch, is_hybrid_cp=False, cp_group=mpu.get_context_parallel_group()
    )
    documents = documents_of(batch["cu_seqlens"]) if apart else None
    return Batch(**{key: batch.get(key) for key in TENSORS}, documents=documents, joints=found)


def is_built_on_rank(vp_stage: int | None = None) -> bool:
    """Whether this rank reads data: the first tensor rank of the first and last stage.

    Where documents are apart, or windows cut at joints, every stage has to know where.
    """
    args = get_args()
    everywhere = args.dataloader_inter_document_masking or args.window_joints
    reads = everywhere or is_first_or_last_pipeline_stage(vp_stage)
    return reads and mpu.get_tensor_model_parallel_rank() == 0
