# SPDX-License-Identifier: Apache-2.0
"""Where the time of a step goes: kernels of a torch profile, sorted into classes by name."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch

# First match wins. Names are those of CUDA kernels, and on the CPU those of torch's operators.
CLASSES = (
    ("copies", r"memcpy|memset|aten::copy_|aten::_to_copy|aten::clone|aten::fill_|aten::zero_"),
    ("communication", r"nccl|gloo|all_?reduce|all_?gather|reduce_?scatter"),
    ("optimizer", r"adam|multi_tensor|foreach|lpnorm|l2norm"),
    ("attention", r"flash|fmha|sdpa|cudnn_.*attn|attention|softmax(?!.*cross)"),
    ("cross entropy", r"cross_?entropy|nll|log_softmax|_ce_"),
    ("RoPE", r"rotate_kernel|rope|rotary"),
    ("norm", r"rms_?norm|layer_?norm|rmsnorm"),
    ("matrix products", r"gemm|nvjet|cutlass|wgmma|xmma|aten::mm|aten::addmm|aten::bmm|matmul"),
    ("embedding", r"embedding|indexing_backward|aten::index"),
)
OTHER = "elementwise"


def kernel_class(name: str) -> str:
    """The class of a kernel."""
    for label, pattern in CLASSES:
        if re.search(pattern, name, re.IGNORECASE):
            return label
    return OTHER


def busy_time(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of (start, end)."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def summarize(events: Iterable[tuple[str, float, float, float]], steps: int) -> dict[str, Any]:
    """Sum kernels up.

    Args:
        events: name, start, end and own time in microseconds, of everything that ran on the device.
        steps: how many they are of.

    Returns:
        ``milliseconds`` a step by class, largest first; ``idle_milliseconds``, in which nothing
        ran; ``span_milliseconds``; ``kernels``, the twelve that took longest.
    """
    events = list(events)
    by_class: dict[str, float] = defaultdict(float)
    by_name: dict[str, float] = defaultdict(float)
    for name, _, _, own in events:
        by_class[kernel_class(name)] += own
        by_name[name] += own
    intervals = [(start, end) for _, start, end, _ in events]
    starts, ends = zip(*intervals, strict=True) if intervals else ((0.0,), (0.0,))
    span = max(ends) - min(starts)
    idle = span - busy_time(intervals)

    def largest(times: dict[str, float]) -> dict[str, float]:
        ordered = sorted(times.items(), key=lambda item: -item[1])
        return {name: round(time / 1000 / steps, 3) for name, time in ordered}

    top = dict(list(largest(by_name).items())[:12])
    return {
        "steps": steps,
        "milliseconds": largest(by_class),
        "idle_milliseconds": round(idle / 1000 / steps, 3),
        "span_milliseconds": round(span / 1000 / steps, 3),
        "kernels": {name[:120]: time for name, time in top.items()},
    }


def profile(run: Callable[[], None], steps: int, on_cpu: bool) -> dict[str, Any]:
    """Run ``run`` a few times under torch's profiler; see :func:`summarize`."""
    activity = torch.profiler.ProfilerActivity
    kind = activity.CPU if on_cpu else activity.CUDA
    with torch.profiler.profile(activities=[kind]) as recorded:
        for _ in range(steps):
            run()
        torch.cuda.synchronize()
    return summarize(_device_events(recorded, on_cpu), steps)


def _device_events(recorded: Any, on_cpu: bool) -> Iterable[tuple[str, float, float, float]]:
    wanted = torch.autograd.DeviceType.CPU if on_cpu else torch.autograd.DeviceType.CUDA
    for event in recorded.events():
        if event.device_type == wanted:
            start, end = event.time_range.start, event.time_range.end
            # Operators of the CPU call each other; kernels of a GPU do not.
            own = event.self_cpu_time_total if on_cpu else end - start
            yield event.name, start, end, own
