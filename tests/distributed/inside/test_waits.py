# SPDX-License-Identifier: Apache-2.0
"""How often a micro-batch makes the host wait for the device: once, for the check of the loss."""

import argparse

import pytest
import torch
from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
from megatron.core.rerun_state_machine import (
    destroy_rerun_state_machine,
    initialize_rerun_state_machine,
)

from e2_llm.config import E2Config
from e2_llm.methods import method_for
from e2_llm.sampler import Draw
from megatron_patches.model.rotary import E2RotaryEmbedding
from megatron_patches.training import step
from tests.helpers.waits import Waits

PLACEMENTS = ("offset", "skip", "skips", "random", "cream", "tail", "float")


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_positions_and_angles_wait_for_nothing(model_parallel, placement):
    config = E2Config(
        base_window=128, train_window=64, frequencies="yarn", scale_distribution="log-uniform"
    )
    rotary = E2RotaryEmbedding(RotaryEmbedding(16, 1.0), method_for(config), 1e4)
    rotary.set_draws([Draw(3.7, 40, placement), Draw(2.2, 7, placement)])
    with Waits() as waits:
        rotary(64)
    assert waits.count == 0


def test_the_loss_is_checked_once(model_parallel, monkeypatch):
    args = argparse.Namespace(check_for_nan_in_loss_and_grad=True, check_for_spiky_loss=False)
    monkeypatch.setattr(step, "get_args", lambda: args)
    destroy_rerun_state_machine()
    initialize_rerun_state_machine()
    losses = torch.rand(2, 8)
    with Waits() as waits:
        step.loss_function(torch.ones(2, 8), {"e2 scale": 3.0}, losses)
    assert waits.count == 1
    for bad in (float("nan"), float("inf")):
        with pytest.raises(RuntimeError, match="found NaN or Inf in the local loss"):
            step.loss_function(torch.ones(2, 8), {}, torch.full((2, 8), bad))
    destroy_rerun_state_machine()
