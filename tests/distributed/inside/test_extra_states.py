# SPDX-License-Identifier: Apache-2.0
"""Weights of local layers load into layers that keep extra states, as Transformer Engine's do."""

import pytest
import torch
from megatron.core import dist_checkpointing
from torch.distributed.checkpoint import CheckpointException

from megatron_patches.checkpoint.extra_states import keep_own
from megatron_patches.kernels.norm import RMSNorm
from tests.distributed.inside.models import built, megatron_args


def with_extra_state(monkeypatch):
    """Norms are like Transformer Engine's from now on: theirs is a tensor of bytes."""
    empty = torch.empty(0, dtype=torch.uint8)
    state = lambda norm: getattr(norm, "extra", empty)  # noqa: E731
    monkeypatch.setattr(RMSNorm, "get_extra_state", state, raising=False)
    keep = lambda norm, extra: setattr(norm, "extra", extra)  # noqa: E731
    monkeypatch.setattr(RMSNorm, "set_extra_state", keep, raising=False)


@pytest.mark.parametrize("extra_there", [False, True])
def test_layers_of_either_make_load_the_other(monkeypatch, model_parallel, folder, extra_there):
    args = megatron_args(monkeypatch, model_parallel)
    with monkeypatch.context() as patch:
        if extra_there:
            with_extra_state(patch)
        trained = built(args)
        dist_checkpointing.save({"model": trained.sharded_state_dict()}, folder)
    with monkeypatch.context() as patch:
        if not extra_there:
            with_extra_state(patch)
        torch.manual_seed(2)
        model = built(args)
        if not extra_there:
            with pytest.raises((Exception, CheckpointException), match="_extra_state"):
                dist_checkpointing.load({"model": model.sharded_state_dict()}, folder)
        state = {"model": model.sharded_state_dict()}
        keep_own(state, folder)
        model.load_state_dict(dist_checkpointing.load(state, folder)["model"], strict=True)
    weights = dict(trained.named_parameters())
    assert all(torch.equal(weights[name], one) for name, one in model.named_parameters())


def test_extra_states_that_are_there_are_loaded(monkeypatch, model_parallel, folder):
    args = megatron_args(monkeypatch, model_parallel)
    with_extra_state(monkeypatch)
    model = built(args)
    model.decoder.final_layernorm.extra = torch.tensor([1, 2, 3], dtype=torch.uint8)
    dist_checkpointing.save({"model": model.sharded_state_dict()}, folder)
    other = built(args)
    state = {"model": other.sharded_state_dict()}
    keep_own(state, folder)
    other.load_state_dict(dist_checkpointing.load(state, folder)["model"], strict=True)
    assert other.decoder.final_layernorm.extra.tolist() == [1, 2, 3]
