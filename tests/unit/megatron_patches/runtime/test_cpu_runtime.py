# SPDX-License-Identifier: Apache-2.0
"""The CPU runtime and the fixes: what they replace, and that they fail loudly."""

import types

import pytest
import torch

from megatron_patches.runtime import cpu as cpu_runtime
from megatron_patches.runtime.cpu import CPU, CudaToCpu, is_cuda
from megatron_patches.runtime.replace import replace


@pytest.mark.parametrize(
    ("device", "expected"),
    [("cuda", True), ("cuda:1", True), (torch.device("cuda", 0), True), (0, True)]
    + [("cpu", False), (torch.device("meta"), False), (None, False), (True, False)],
)
def test_is_cuda(device, expected):
    assert is_cuda(device) is expected


def test_cuda_devices_become_cpu_ones():
    with CudaToCpu():
        assert torch.zeros(2, device="cuda").device == CPU
        assert torch.empty(2, device=torch.device("cuda", 0), pin_memory=True).device == CPU
        tensor = torch.ones(2)
        assert tensor.cuda() is tensor
        assert tensor.to("cuda").device == CPU
        assert tensor.to("cuda", torch.float64).dtype == torch.float64
        assert tensor.to(torch.bfloat16).dtype == torch.bfloat16
        assert tensor.pin_memory() is tensor
        assert tensor.type() == "torch.cuda.FloatTensor"
        assert tensor.type(torch.float64).dtype == torch.float64
        assert torch.zeros(2, device="meta").device.type == "meta"


def test_a_replacement_fails_when_the_name_is_gone():
    module = types.ModuleType("somewhere")
    module.name = 1
    assert replace(module, "name", 2) == 1
    assert module.name == 2
    with pytest.raises(RuntimeError, match="somewhere.other is gone"):
        replace(module, "other", 3)


def test_refused_where_there_is_cuda(monkeypatch):
    monkeypatch.setattr(cpu_runtime, "is_needed", lambda: False)
    with pytest.raises(RuntimeError, match="CUDA device is present"):
        cpu_runtime.install()
    assert torch.cuda.current_device.__module__ == "torch.cuda"
