# SPDX-License-Identifier: Apache-2.0
"""The perplexity of a model on documents at one window."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from e2_common.errors import UserError
from e2_tools.evaluation.perplexity.bootstrap import interval_over_documents
from e2_tools.evaluation.perplexity.last_layer import Reader, reader_of
from e2_tools.evaluation.perplexity.protocols import Protocol
from e2_tools.evaluation.perplexity.streams import Stream
from e2_tools.evaluation.perplexity.windows import Window

TOKENS_PER_BATCH = 8192  # of the default batch: 2 windows of 4096, 64 of 128
LOGITS_AT_ONCE = 2**24  # fp32 numbers, 64 MiB: all logits of a long window would be gigabytes


class Job(NamedTuple):
    """A window of one stream."""

    stream: int
    window: Window


@dataclass(frozen=True)
class Material:
    """What is scored.

    Attributes:
        protocol: how.
        streams: that windows are cut from.
        prefix: token ids before every window: a BOS or nothing.
        documents: how many there are.
    """

    protocol: Protocol
    streams: list[Stream]
    prefix: list[int]
    documents: int

    @property
    def has_keys(self) -> bool:
        """Whether key tokens were chosen."""
        return any(stream.key is not None for stream in self.streams)

    def jobs(self, window: int, stride: int) -> list[Job]:
        """Return the windows of all streams, the longest first (equal ones can be batched)."""
        jobs = [
            Job(number, each)
            for number, stream in enumerate(self.streams)
            for each in self.protocol.windows(len(stream.tokens), window, stride, len(self.prefix))
        ]
        return sorted(jobs, key=_shape, reverse=True)


def tokens_read(jobs: list[Job]) -> int:
    """Count the tokens of documents that the forward passes of ``jobs`` read."""
    return sum(map(_length, jobs))


def evaluate_jobs(
    model: PreTrainedModel,
    material: Material,
    jobs: list[Job],
    window: int,
    *,
    full_context_from: int | None = None,
    batch_size: int | None = None,
    progress: Callable[[int], object] = lambda tokens: None,
) -> dict[str, Any]:
    """Score the windows of one size.

    Args:
        model: at the scale of this window.
        material: what the jobs are windows of.
        jobs: from :meth:`Material.jobs`, at least one.
        window: W, in tokens, to choose the batch by and to name in errors.
        full_context_from: index in the document from which tokens count towards the second
            perplexity, from :func:`e2_tools.evaluation.perplexity.windows.full_context_from`; None
            for none.
        batch_size: windows in a forward pass; by default about 8192 tokens' worth.
        progress: called with the number of tokens read after each forward pass.

    Returns:
        ``perplexity`` and ``nll``, the protocol's mean of negative log-likelihoods in nats;
        ``perplexity_interval``, its 95 % bootstrap interval over documents, None of a single one;
        ``tokens``, how many were scored, and ``windows``; the same with ``_full_context`` over the
        tokens at ``full_context_from`` and later (None and 0 if no document is that long);
        the same with ``_key_tokens`` where the streams have such; ``documents``, a list of each
        document's ``nll_sum`` and ``count``: nll is sum(nll_sum) / sum(count); ``seconds``.

    Raises:
        UserError: the loss is not finite, or the GPU's memory does not suffice.
    """
    started = time.perf_counter()
    batch_size = batch_size or max(1, TOKENS_PER_BATCH // window)
    device = model.get_output_embeddings().weight.device
    read = reader_of(model)
    names = ["", "_full_context"] + ["_key_tokens"] * material.has_keys
    # fp64: a sum over millions of tokens. On the device: no wait for it after every batch.
    sums = torch.zeros(len(names), material.documents, dtype=torch.float64, device=device)
    counts = torch.zeros(len(names), material.documents, dtype=torch.float64)
    tokens = torch.zeros(len(names), dtype=torch.int64)
    try:
        for batch in _batches(jobs, batch_size):
            nll, scored = _score(model, material, batch, read)
            weight = scored.share if material.protocol.per_window else torch.ones_like(scored.share)
            full = float("inf") if full_context_from is None else full_context_from
            parts = (torch.ones_like(scored.key), scored.index >= full, scored.key)
            for part, chosen in zip(range(len(names)), parts, strict=False):
                owner, share = scored.owner[chosen], weight[chosen]
                weighted = nll[chosen.to(device)] * share.to(device)
                sums[part].index_add_(0, owner.to(device), weighted)
                counts[part].index_add_(0, owner, share)
                tokens[part] += len(owner)
            progress(tokens_read(batch))
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"window {window}: the device's memory does not suffice; lower --batch-size, "
            f"now {batch_size}, or use --dtype bf16"
        ) from error
    nll = float(sums[0].sum()) / float(counts[0].sum())
    if not nll < 700:  # NaN too; beyond it exp() overflows
        raise UserError(f"window {window}: the loss is {nll}; check the model, or use --dtype fp32")
    row: dict[str, Any] = {"nll": nll, "windows": len(jobs), "documents": {}}
    for part, suffix in enumerate(names):
        row |= _summary(material.protocol, sums[part].tolist(), counts[part].tolist(), suffix)
        row[f"tokens{suffix}"] = int(tokens[part])
        if full_context_from is not None or suffix != "_full_context":
            row["documents"][f"nll_sum{suffix}"] = sums[part].tolist()
            row["documents"][f"count{suffix}"] = counts[part].round().long().tolist()
    row["seconds"] = round(time.perf_counter() - started, 3)
    return row


def _summary(
    protocol: Protocol, sums: list[float], counts: list[float], suffix: str
) -> dict[str, Any]:
    """The perplexity over all documents and its interval."""
    perplexity = protocol.perplexity(sum(sums) / sum(counts)) if any(counts) else None
    interval = interval_over_documents(sums, counts)
    return {
        f"perplexity{suffix}": perplexity,
        f"perplexity{suffix}_interval": interval and [*map(protocol.perplexity, interval)],
    }


def _length(job: Job) -> int:
    return job.window.end - job.window.begin


def _shape(job: Job) -> tuple[int, int]:
    """Windows of one shape can be batched: as long, and scored from the same position on."""
    return _length(job), job.window.first_scored - job.window.begin


def _batches(jobs: list[Job], size: int) -> Iterator[list[Job]]:
    for _, equal in itertools.groupby(jobs, key=_shape):
        yield from (list(batch) for batch in itertools.batched(equal, size))


class _Scored(NamedTuple):
    """Of every scored token of a batch, [scored]."""

    index: torch.Tensor  # in its stream
    owner: torch.Tensor  # number of its document
    share: torch.Tensor  # 1 / (tokens scored in its window), fp64
    key: torch.Tensor  # whether it is a key token


@torch.inference_mode()
def _score(
    model: PreTrainedModel, material: Material, batch: list[Job], read: Reader
) -> tuple[torch.Tensor, _Scored]:
    """Return the nll [scored], fp64, of the scored tokens of windows of one shape."""
    prefix = len(material.prefix)
    tokens, owners = zip(*(_cut(material, job) for job in batch), strict=True)
    ids = torch.from_numpy(np.stack(tokens)).long().to(model.device)  # [batch, length]
    # The hidden state at position p predicts the token at p + 1; position 0 is the prefix's first.
    start = max(0, prefix + _shape(batch[0])[1] - 1)
    nll = token_losses(model, read, ids, start)
    begin = torch.tensor([[job.window.begin] for job in batch])  # [batch, 1]
    index = begin - prefix + torch.arange(start + 1, ids.shape[1])  # [batch, scored of a window]
    owner = torch.from_numpy(np.stack(owners))[:, start + 1 - prefix :]
    share = torch.full(index.shape, 1 / index.shape[1], dtype=torch.float64)
    key = torch.from_numpy(np.stack([_key(material, job) for job in batch]))
    key = key[:, start + 1 - prefix :]
    return nll, _Scored(index.flatten(), owner.flatten(), share.flatten(), key.flatten())


@torch.inference_mode()
def token_losses(
    model: PreTrainedModel, read: Reader, ids: torch.Tensor, start: int
) -> torch.Tensor:
    """Return the nll [batch * (length - start - 1)], fp64, in nats, of tokens behind ``start``.

    Args:
        model: a causal language model.
        read: from :func:`e2_tools.evaluation.perplexity.last_layer.reader_of` of it.
        ids: [batch, length].
        start: the position that predicts the first token whose loss is wanted.
    """
    # Only the scored positions go through the last layer and through the output matrix, the
    # dearest layer of a small model.
    hidden = read(ids, start)[:, :-1].flatten(0, 1)  # [scored, hidden]
    targets = ids[:, start + 1 :].flatten()  # [scored]
    head = model.get_output_embeddings()
    rows = max(1, LOGITS_AT_ONCE // head.weight.shape[0])
    nll = [
        cross_entropy(head(some).float(), target, reduction="none")
        for some, target in zip(hidden.split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(nll).double()


def _key(material: Material, job: Job) -> np.ndarray:
    """Which tokens [length] of a window are key tokens; none where nobody chose any."""
    stream, (begin, _, end) = material.streams[job.stream], job.window
    return np.zeros(end - begin, dtype=bool) if stream.key is None else stream.key[begin:end]


def _cut(material: Material, job: Job) -> tuple[np.ndarray, np.ndarray]:
    """The ids [prefix + length] and the owners [length] of a window's tokens."""
    stream, (begin, _, end) = material.streams[job.stream], job.window
    ids = np.concatenate([np.array(material.prefix, dtype=np.int32), stream.tokens[begin:end]])
    return ids, stream.owner[begin:end]
