# SPDX-License-Identifier: Apache-2.0
"""Documents of a window that do not see each other (``--dataloader-inter-document-masking``).

Megatron's dataset then says of each window where its documents end. A document is what the indexed
dataset calls one, its EOD included; one that is cut by the end of a window goes on in another
window as a document of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from megatron.core.packed_seq_params import PackedSeqParams
from torch import Tensor


@dataclass
class Documents(PackedSeqParams):
    """Where the documents of a micro-batch lie.

    Megatron hands its packed sequences to every layer, also when it computes a layer again, and
    so it does with these. Their format is not ``thd``: the states keep their shape [s, b, ...].

    Attributes:
        lengths: of each sample, the tokens of its documents, in order; they add up to s.
    """

    lengths: Sequence[Sequence[int]] = ()


def documents_of(ends: Tensor) -> Documents:
    """The documents of a micro-batch.

    Args:
        ends: int32 [b, n], of each window 0, the end of every document, and s until the row is
            full; as Megatron's dataset gives them.
    """
    # The lengths are needed on the host: of a GPU's tensor this waits for it, once a micro-batch.
    rows = [sorted(set(row)) for row in ends.tolist()]
    window = rows[0][-1]
    return Documents(
        qkv_format="sbhd",
        max_seqlen_q=window,
        max_seqlen_kv=window,
        lengths=[[end - begin for begin, end in zip(row, row[1:], strict=False)] for row in rows],
    )
