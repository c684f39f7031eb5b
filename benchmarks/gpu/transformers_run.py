# SPDX-License-Identifier: Apache-2.0
"""Measured training steps of transformers' Llama: SDPA, torch.compile, the same AdamW.

As Megatron does it in bf16: gradients of micro-batches are summed in fp32, clipped by their norm,
and AdamW moves an fp32 master copy, from which the bf16 weights are rounded.
"""

import gc
import time
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from benchmarks.gpu.models import cut
from benchmarks.gpu.plan import AT_LEAST
from benchmarks.gpu.profile import profile
from e2_common.progress import progress_bar
from e2_tools.planning.models import Model


class MasterAdamW:
    """AdamW on fp32 copies of bf16 parameters.

    Args:
        parameters: of the model.
        lr: learning rate.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], lr: float) -> None:
        self.parameters = parameters
        self.master = [parameter.detach().float().clone() for parameter in parameters]
        for master in self.master:
            master.grad = torch.zeros_like(master)
        self.sums = [master.grad for master in self.master]
        self.inner = torch.optim.AdamW(
            self.master, lr=lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )

    def accumulate(self) -> None:
        """Add the gradients of a micro-batch to the fp32 sums, and drop them."""
        torch._foreach_add_(self.sums, [parameter.grad for parameter in self.parameters])
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, micro_batches: int, clip: float = 1.0) -> None:
        """Move the weights; the sums become the mean's gradient and then zero."""
        torch._foreach_div_(self.sums, micro_batches)
        torch.nn.utils.clip_grad_norm_(self.master, clip, foreach=True)
        self.inner.step()
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.master)
        torch._foreach_zero_(self.sums)


def without_mask() -> AbstractContextManager[Any]:
    """Let transformers' Llama be causal by SDPA's own flag, as it is without torch.compile.

    With torch before 2.14 a compiled model makes a mask of s x s instead, and attention takes three
    times as long. There is no padding here, so that the mask says nothing else.
    """
    return patch.object(modeling_llama, "create_causal_mask", lambda *_, **__: None)


def measure(
    known: Model,
    layers: int,
    micro_batch_size: int,
    micro_batches: int,
    limits: dict[str, Any],
    seed: int,
    on_cpu: bool,
) -> dict[str, Any]:
    """Train on random tokens.

    Args:
        known: the model's sizes and window.
        layers: how many of them.
        micro_batch_size: samples of a micro-batch.
        micro_batches: of a step.
        limits: as of Megatron's runs.
        seed: of the weights and tokens.
        on_cpu: torch.compile is left out.

    Returns:
        As :func:`benchmarks.gpu.megatron_runs.measure`, of one variant.
    """
    torch.manual_seed(seed)
    device = torch.cuda.current_device()
    torch.cuda.reset_peak_memory_stats()
    sizes = cut(known.sizes, layers)
    config = LlamaConfig(
        **sizes.llama_config(known.window),
        attn_implementation="sdpa",
        use_cache=False,
    )
    with torch.device(device):
        model = LlamaForCausalLM._from_config(config, dtype=torch.bfloat16).train()
    optimizer = MasterAdamW(list(model.parameters()), 1e-5)
    compiled = model if on_cpu else torch.compile(model)
    size = (micro_batch_size, known.window)

    def step() -> None:
        for _ in range(micro_batches):
            tokens = torch.randint(sizes.vocab, size, device=device)
            with without_mask():
                compiled(input_ids=tokens, labels=tokens).loss.backward()
            optimizer.accumulate()
        optimizer.step(micro_batches)

    seconds: list[float] = []
    total = limits["warm_up"] + limits["rounds"]
    for _ in progress_bar(total, "step", "transformers", iterable=range(total)):
        torch.cuda.synchronize()
        started = time.perf_counter()
        step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        enough = len(seconds) >= limits["warm_up"] + AT_LEAST
        if enough and time.monotonic() > limits["deadline"]:
            break
    peak = torch.cuda.max_memory_allocated()
    profiled = limits["profiled"]
    gc.collect()  # the modules of earlier runs; this one's go with this call
    kernels = {"attention": "SDPA, torch's choice", "rest": "plain" if on_cpu else "torch.compile"}
    return {
        "seconds": [seconds[limits["warm_up"] :]],
        "peak_bytes": peak,
        "kernels": {**kernels, "adamw": "fused"},
        "profile": profile(step, profiled, on_cpu) if profiled else None,
    }
