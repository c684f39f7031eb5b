# SPDX-License-Identifier: Apache-2.0
"""Norm and scaling of many tensors against Megatron's own stand-ins."""

import importlib.util

import pytest
import torch
from megatron.core import utils

from megatron_patches.kernels import multi_tensor
from tests.helpers.waits import Waits


def tensors(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    sizes = ((3,), (4, 5), (1000,))
    return [torch.randn(size, generator=generator).to(dtype) for size in sizes]


@pytest.fixture
def theirs(monkeypatch):
    """Megatron's own, as they are without ours; on the CPU."""
    make = torch.tensor
    monkeypatch.setattr(
        torch, "tensor", lambda *args, **options: make(*args, **{**options, "device": "cpu"})
    )
    spec = importlib.util.find_spec("megatron.core.utils")
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    return fresh


def test_the_norm_is_theirs_and_waits_for_nothing(theirs):
    ours, nothing = multi_tensor.l2_norm(1, None, [tensors()], False)
    assert nothing is None
    reference, _ = theirs.local_multi_tensor_l2_norm(1, None, [tensors()], False)
    assert torch.equal(ours, reference)
    with Waits() as waits:
        multi_tensor.l2_norm(1, None, [tensors()], False)
    assert waits.count == 0


@pytest.mark.parametrize("factor", [1, 1.0, 0.3])
@pytest.mark.parametrize("target", [None, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("source", [torch.float32, torch.bfloat16])
def test_scaling_is_theirs(theirs, factor, target, source):
    results = []
    for scale in (multi_tensor.scale, theirs.local_multi_tensor_scale):
        sources = tensors(source)
        targets = (
            sources if target is None else [torch.zeros_like(x, dtype=target) for x in sources]
        )
        scale(1, None, [sources, targets], factor)
        results.append(targets)
    assert all(torch.equal(mine, other) for mine, other in zip(*results, strict=True))


def test_nothing_to_scale_is_no_error():
    multi_tensor.scale(1, None, [[], []], 0.5)


def test_it_takes_the_place_of_theirs_everywhere(monkeypatch):
    from megatron.core.optimizer import clip_grads, optimizer

    monkeypatch.setattr(utils, "local_multi_tensor_scale", utils.local_multi_tensor_scale)
    multi_tensor.install()
    multi_tensor.install()  # again, to no effect
    assert utils.local_multi_tensor_l2_norm is clip_grads.l2_norm_impl is multi_tensor.l2_norm
    assert clip_grads.multi_tensor_scale_impl is multi_tensor.scale
    assert optimizer.multi_tensor_scale_impl is multi_tensor.scale
