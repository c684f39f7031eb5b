# SPDX-License-Identifier: Apache-2.0
"""Choosing torch's AdamW implementation, also across a saved state."""

import pytest
import torch

from megatron_patches.kernels import adamw


class Wrapped:
    """As Megatron holds it: a chain of optimizers, each around one of torch."""

    def __init__(self, *inner):
        self.chained_optimizers = [type("One", (), {"optimizer": item})() for item in inner]


def optimizer(seed=0):
    generator = torch.Generator().manual_seed(seed)
    parameters = [torch.nn.Parameter(torch.randn(n, generator=generator)) for n in (5, 300)]
    return torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)


def steps(inner, count, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        for parameter in inner.param_groups[0]["params"]:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        inner.step()
    return torch.cat([parameter.detach() for parameter in inner.param_groups[0]["params"]])


@pytest.mark.parametrize("name", adamw.SETTINGS)
def test_implementations_agree(name):
    inner, reference = optimizer(), optimizer()
    adamw.select(Wrapped(inner, None), name)
    torch.testing.assert_close(steps(inner, 5, 1), steps(reference, 5, 1), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("now", adamw.SETTINGS)
@pytest.mark.parametrize("then", adamw.SETTINGS)
def test_a_loaded_state_does_not_bring_its_implementation(then, now):
    writer, whole = optimizer(), optimizer()
    adamw.select(writer, then)
    steps(writer, 3, 1)
    steps(whole, 3, 1)
    reader = optimizer(seed=9)
    adamw.select(Wrapped(reader), now)
    for mine, theirs in zip(
        reader.param_groups[0]["params"], writer.param_groups[0]["params"], strict=True
    ):
        mine.data = theirs.data.clone()
    reader.load_state_dict(writer.state_dict())
    group = reader.param_groups[0]
    assert {key: group[key] for key in ("fused", "foreach")} == adamw.SETTINGS[now]
    torch.testing.assert_close(steps(reader, 3, 2), steps(whole, 3, 2), rtol=1e-6, atol=1e-7)


def test_other_optimizers_are_left_alone():
    inner = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=1.0)
    adamw.select(Wrapped(inner), "fused")
    assert not inner.param_groups[0]["fused"]
