# SPDX-License-Identifier: Apache-2.0
"""Megatron on a machine without CUDA: the same engine on CPU tensors and gloo.

megatron.training names the CUDA device in some three hundred places. :func:`install` turns those
into CPU ones: a ``TorchFunctionMode`` rewrites devices in every torch call, and stand-ins take the
place of the parts of ``torch.cuda`` that would start the driver (streams, events, generators,
memory statistics). On a machine with CUDA it refuses to be installed; nothing of it is active.
"""

import contextlib
import logging
import os
import warnings
from collections import defaultdict
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from e2_common.cpu.memory import keep_freed_memory
from megatron_patches.runtime import transformer_engine
from megatron_patches.runtime.replace import replace

CPU = torch.device("cpu")

_mode: "CudaToCpu | None" = None


def is_needed() -> bool:
    """Whether this machine has no CUDA device."""
    return not torch.cuda.is_available()


def install() -> None:
    """Let Megatron run on the CPU; call once, before importing anything of megatron.

    Raises:
        RuntimeError: there is a CUDA device, or a name this replaces is gone.
    """
    global _mode
    if _mode is not None:
        return
    if not is_needed():
        raise RuntimeError("a CUDA device is present: the CPU runtime must not be installed")
    transformer_engine.settle(on_cpu=True)
    keep_freed_memory()
    # Imports warn on every rank of what only a CUDA device has a use for.
    warnings.filterwarnings("ignore", ".*(transformer.engine|apex)", UserWarning)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # Megatron decorates small functions with torch.compile at import; compiling them on the CPU
    # costs a minute, and loading the compiler alone several seconds.
    replace(torch, "compile", _without_compiling)
    _replace_cuda_module()
    _patch_megatron()
    _mode = CudaToCpu()
    _mode.__enter__()


def is_cuda(device: Any) -> bool:
    """Whether ``device``, as torch functions take it, names a CUDA device."""
    if isinstance(device, str):
        return device.startswith("cuda")
    if isinstance(device, torch.device):
        return device.type == "cuda"
    return isinstance(device, int) and not isinstance(device, bool)


class CudaToCpu(TorchFunctionMode):
    """Rewrites CUDA devices to the CPU in the arguments of torch functions."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.cuda or func is torch.Tensor.pin_memory:
            return args[0]
        if kwargs:
            if is_cuda(kwargs.get("device")):
                kwargs = {**kwargs, "device": CPU}
            if kwargs.get("pin_memory"):
                kwargs = {**kwargs, "pin_memory": False}
        if func is torch.Tensor.to and len(args) > 1 and is_cuda(args[1]):
            args = (args[0], CPU, *args[2:])
        elif func is torch.Tensor.type and len(args) == 1 and not kwargs:
            # Gradient clipping asserts that gradients are of type 'torch.cuda.FloatTensor'.
            return func(*args).replace("torch.", "torch.cuda.", 1)
        return func(*args, **kwargs)


class _Stream:
    """A stream on which everything has already happened."""

    cuda_stream = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def record_event(self, event: "_Event | None" = None) -> "_Event":
        return event or _Event()

    def wait_stream(self, stream: "_Stream") -> None:
        pass

    def wait_event(self, event: "_Event") -> None:
        pass

    def synchronize(self) -> None:
        pass

    def query(self) -> bool:
        return True

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *exception: object) -> None:
        pass


class _Event:
    """An event that has already happened."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def record(self, stream: _Stream | None = None) -> None:
        pass

    def wait(self, stream: _Stream | None = None) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: "_Event") -> float:
        return 0.0


def _without_compiling(model: Any = None, **options: Any) -> Any:
    """``torch.compile``, as function or decorator, that leaves its argument as it is."""
    return (lambda function: function) if model is None else model


def _replace_cuda_module() -> None:
    """Put stand-ins in place of the names of ``torch.cuda`` that Megatron uses."""
    stream = _Stream()
    # An Ampere-like device: nothing is then refused as too old, and no Hopper feature is assumed.
    properties = SimpleNamespace(
        name="cpu", major=8, minor=0, total_memory=_host_memory(), multi_processor_count=1
    )
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def returning(value: Any) -> Any:
        # A new function each time: torch._dynamo lists torch's functions by identity and
        # refuses to be imported when two names share one.
        return lambda *args, **kwargs: value

    stand_ins = {
        "current_device": returning(CPU),
        "device_count": returning(local_ranks),
        "set_device": returning(None),
        "synchronize": returning(None),
        "empty_cache": returning(None),
        "device": lambda device: contextlib.nullcontext(),
        "get_rng_state": lambda *args, **kwargs: torch.get_rng_state(),
        "set_rng_state": lambda state, *args, **kwargs: torch.set_rng_state(state),
        "manual_seed": torch.default_generator.manual_seed,
        "Stream": _Stream,
        "Event": _Event,
        "current_stream": returning(stream),
        "default_stream": returning(stream),
        "set_stream": returning(None),
        "stream": lambda stream: contextlib.nullcontext(),
        "is_current_stream_capturing": returning(False),
        "get_device_properties": returning(properties),
        "get_device_capability": returning((properties.major, properties.minor)),
        "get_device_name": returning(properties.name),
        "memory_allocated": returning(0),
        "max_memory_allocated": returning(0),
        "memory_reserved": returning(0),
        "max_memory_reserved": returning(0),
        "memory_stats": lambda *args, **kwargs: defaultdict(int),
        "reset_peak_memory_stats": returning(None),
    }
    for name, stand_in in stand_ins.items():
        replace(torch.cuda, name, stand_in)
    replace(torch.nn.Module, "cuda", lambda self, device=None: self)


def _host_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _patch_megatron() -> None:
    """Patch the few places where the device is decided outside torch's own functions."""
    import torch.distributed

    init_process_group = torch.distributed.init_process_group

    def without_device(*args: Any, device_id: Any = None, **kwargs: Any) -> None:
        init_process_group(*args, **kwargs)

    replace(torch.distributed, "init_process_group", without_device)

    import megatron.core.tensor_parallel.random as random
    import megatron.training.initialize as initialize
    import megatron.training.training as training

    # One generator now serves as the CPU's and the device's, so forking the latter always moves
    # the former, and Megatron would say so at every fork.
    logging.getLogger(random.__name__).addFilter(
        lambda record: "CPU RNG state changed" not in record.getMessage()
    )
    replace(random, "_get_cuda_rng_state", lambda *args, **kwargs: torch.get_rng_state())
    replace(
        random, "_set_cuda_rng_state", lambda state, *args, **kwargs: torch.set_rng_state(state)
    )
    replace(
        training,
        "initialize_megatron",
        partial(initialize.initialize_megatron, allow_no_cuda=True),
    )
