# SPDX-License-Identifier: Apache-2.0
"""What the first half of a window gives its last quarter: which tokens, which losses."""

import argparse

import pytest
import torch

from e2_llm.window_loss import WindowLoss
from megatron_patches.data.batches import Batch
from megatron_patches.training import window_validation


def test_the_report_sums_all_tokens_and_the_last_quarter():
    output, mask = torch.rand(1, 8), torch.ones(1, 8)
    mask[0, 1] = mask[0, 7] = 0
    inner = lambda output: (None, None, {"lm loss": torch.tensor([11.0, 6.0])})  # noqa: E731
    _, _, report = window_validation._with_last_quarter(inner, mask, 2, output)
    assert report["losses"].tolist() == pytest.approx([11.0, 6.0, output[0, 6].item(), 1.0])


def test_the_second_half_is_a_window_of_its_own():
    text = torch.arange(9).unsqueeze(0)
    mask = torch.ones(8, 8, dtype=torch.bool).triu(1)[None, None]
    ids = torch.arange(8).unsqueeze(0)
    batch = Batch(text[:, :-1], text[:, 1:], torch.ones(1, 8), mask, ids)
    half = window_validation._from(batch, 4)
    assert half.tokens.tolist() == [[4, 5, 6, 7]]
    assert half.labels.tolist() == [[5, 6, 7, 8]]
    assert half.loss_mask.shape == (1, 4)
    assert torch.equal(half.attention_mask, mask[..., :4, :4])
    assert half.position_ids.tolist() == [[0, 1, 2, 3]]
    # A stage in the middle of the pipeline has nothing to cut.
    assert window_validation._from(Batch(), 4) == Batch()


def test_the_gain_is_what_the_loss_falls_by():
    assert WindowLoss(3.0, 2.5, 2.75).gain == 0.25
    assert WindowLoss(3.0, 2.5, None).gain is None


@pytest.mark.parametrize(
    ("window", "change", "has"),
    [
        (64, {}, True),
        (65, {}, False),
        (64, {"tensor_model_parallel_size": 3}, False),
        (64, {"context_parallel_size": 2}, False),
        (64, {"dataloader_inter_document_masking": True}, False),
    ],
)
def test_where_a_half_cannot_be_computed_there_is_none(window, change, has):
    usual = {"tensor_model_parallel_size": 2, "context_parallel_size": 1}
    usual |= {"dataloader_inter_document_masking": False}
    assert window_validation._has_halves(argparse.Namespace(**usual | change), window) == has
