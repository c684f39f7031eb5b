# SPDX-License-Identifier: Apache-2.0
"""The perplexity of a model on documents at one window."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from megatron_patches.errors import UserError
from tools.evaluation.model import hidden_states
from tools.evaluation.windows import PROTOCOLS, Window

TOKENS_PER_BATCH = 8192  # of the default batch: 2 windows of 4096, 64 of 128
LOGITS_AT_ONCE = 2**24  # fp32 numbers, 64 MiB: all logits of a long window would be gigabytes


class Job(NamedTuple):
    """A window of one document."""

    document: int
    window: Window


def jobs_for(documents: list[list[int]], protocol: str, window: int, stride: int) -> list[Job]:
    """Return the windows of all documents, the longest first (equal lengths can be batched)."""
    jobs = [
        Job(number, job)
        for number, document in enumerate(documents)
        for job in PROTOCOLS[protocol](len(document), window, stride)
    ]
    return sorted(jobs, key=_length, reverse=True)


def tokens_read(jobs: list[Job]) -> int:
    """Count the tokens that the forward passes of ``jobs`` read."""
    return sum(map(_length, jobs))


def evaluate_jobs(
    model: PreTrainedModel,
    documents: list[list[int]],
    jobs: list[Job],
    window: int,
    *,
    full_context_from: int,
    batch_size: int | None = None,
    progress: Callable[[int], object] = lambda tokens: None,
) -> dict[str, float | int | None]:
    """Score the windows of one size.

    Args:
        model: at the scale of this window.
        documents: token ids.
        jobs: from :func:`jobs_for`.
        window: W, in tokens, to choose the batch by and to name in errors.
        full_context_from: index in the document from which tokens count towards the second
            perplexity, see :func:`tools.evaluation.windows.full_context_from`.
        batch_size: windows in a forward pass; by default about 8192 tokens' worth.
        progress: called with the number of tokens read after each forward pass.

    Returns:
        ``perplexity``, exp of ``nll``; ``nll``, the mean negative log-likelihood of a token in
        nats, each token weighing the same whatever its document; ``tokens``, how many were
        scored; ``perplexity_full_context`` and ``tokens_full_context``, the same over the tokens
        at ``full_context_from`` and later (None and 0 if no document is that long); ``seconds``.

    Raises:
        UserError: the loss is not finite, or the GPU's memory does not suffice.
    """
    started = time.perf_counter()
    batch_size = batch_size or max(1, TOKENS_PER_BATCH // window)
    device = model.get_output_embeddings().weight.device
    # fp64: a sum over millions of tokens. On the device: no wait for it after every batch.
    totals = torch.zeros(2, dtype=torch.float64, device=device)  # all, full context
    counts = torch.zeros(2, dtype=torch.int64)
    try:
        for batch in _batches(jobs, batch_size):
            nll, index = _score(model, documents, batch, device)
            full = index >= full_context_from
            totals += torch.stack([nll.sum(), nll[full.to(device)].sum()])
            counts += torch.stack([torch.tensor(len(index)), full.sum()])
            progress(tokens_read(batch))
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"window {window}: the device's memory does not suffice; lower --batch-size, "
            f"now {batch_size}, or use --dtype bf16"
        ) from error
    (nll_sum, full_sum), (tokens, full_tokens) = totals.tolist(), counts.tolist()
    nll = nll_sum / tokens
    if not nll < 700:  # NaN too; beyond it exp() overflows
        raise UserError(f"window {window}: the loss is {nll}; check the model, or use --dtype fp32")
    return {
        "perplexity": math.exp(nll),
        "nll": nll,
        "tokens": tokens,
        "perplexity_full_context": math.exp(full_sum / full_tokens) if full_tokens else None,
        "tokens_full_context": full_tokens,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _length(job: Job) -> int:
    return job.window.end - job.window.begin


def _batches(jobs: list[Job], size: int) -> Iterator[list[Job]]:
    for _, equal in itertools.groupby(jobs, key=_length):
        yield from (list(batch) for batch in itertools.batched(equal, size))


@torch.inference_mode()
def _score(
    model: PreTrainedModel, documents: list[list[int]], batch: list[Job], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the nll [scored], fp64, and the index in its document [scored] of scored tokens."""
    ids = torch.tensor(
        [documents[job.document][job.window.begin : job.window.end] for job in batch]
    )
    begin = torch.tensor([[job.window.begin] for job in batch])  # [batch, 1]
    first_scored = torch.tensor([[job.window.first_scored] for job in batch])
    index = begin + torch.arange(1, ids.shape[1])  # [batch, length - 1], of the predicted token
    scored = index >= first_scored
    targets = ids[:, 1:][scored].to(device)  # [scored]
    # Only the scored positions go through the output matrix, the dearest layer of a small model.
    hidden = hidden_states(model, ids.to(device))[:, :-1][scored.to(device)]  # [scored, hidden]
    head = model.get_output_embeddings()
    rows = max(1, LOGITS_AT_ONCE // head.weight.shape[0])
    nll = [
        cross_entropy(head(some).float(), target, reduction="none")
        for some, target in zip(hidden.split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(nll).double(), index[scored]
