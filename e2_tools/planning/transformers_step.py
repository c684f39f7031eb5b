# SPDX-License-Identifier: Apache-2.0
"""The memory of a training step of transformers and PEFT, from the step itself.

The model that ``train_e2_hf.py`` trains is built, without weights, and one of its steps is run on
tensors that have shapes and no content. So what is counted is what these libraries keep, in the
versions that are installed: a copy of a LoRA's input for each of its matrices, the bf16 copies of
fp32 weights, logits and loss in fp32.
"""

import argparse
import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, PretrainedConfig, masking_utils

from e2_tools.planning.live_bytes import LiveBytes
from e2_tools.tuning.model import weight_type, with_lora


@dataclass(frozen=True)
class Step:
    """One GPU in a step.

    Attributes:
        parameters: of the model, all of them.
        trained: those with a gradient.
        peaks: ``forward and loss``, ``backward`` and ``optimizer step`` -> part -> bytes, when they
            are most.
        kept: part -> bytes when the forward pass has ended.
    """

    parameters: int
    trained: int
    peaks: dict[str, dict[str, int]]
    kept: dict[str, int]


def build(config: PretrainedConfig, args: argparse.Namespace) -> nn.Module:
    """The model that is trained, on torch's ``meta`` device.

    Args:
        config: of Hugging Face.
        args: those of ``train_e2_hf.py`` that concern the model.

    Raises:
        UserError: a LoRA that the model cannot have.
    """
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_config(
            config, dtype=weight_type(args), attn_implementation=args.attention
        )
        if args.lora:
            model = with_lora(model, args)
        if args.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
    model.config.use_cache = False  # as a Trainer has it
    return model.train()


def traced_step(config: PretrainedConfig, args: argparse.Namespace, accumulates: bool) -> Step:
    """Run a step that is not the first one, on tensors without content.

    Args:
        config: of Hugging Face.
        args: as of :func:`build`, and ``micro_batch_size``, ``seq_length`` and ``bf16``.
        accumulates: whether a step has several micro-batches; the last one is run.
    """
    model = build(config, args)
    with FakeTensorMode(allow_non_fake_inputs=True), warnings.catch_warnings(), _one_document():
        warnings.simplefilter("ignore")
        _materialise(model)
        return run_step(model, args, accumulates)


def run_step(model: nn.Module, args: argparse.Namespace, accumulates: bool) -> Step:
    """Count a step of a model, whose tensors have content or none.

    Args:
        model: in training mode.
        args: see :func:`traced_step`.
        accumulates: likewise.
    """
    weights = {id(parameter) for parameter in model.parameters()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rows, length = args.micro_batch_size, args.seq_length
    logits = rows * length * model.config.vocab_size
    vocabulary = model.config.vocab_size

    def part_of(tensor: Tensor, func: Any, arguments: tuple) -> str | None:
        if func is torch.ops.aten._to_copy.default and id(arguments[0]) in weights:
            return "copies of weights"
        if tensor.numel() == logits and tensor.shape[-1] == vocabulary:
            return "logits and loss"
        return None

    live = LiveBytes(part_of)
    live.hold("weights", [*model.parameters(), *model.buffers()])
    optimizer = torch.optim.AdamW(trained, foreach=True)  # torch's choice on a GPU
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
        parameter.register_post_accumulate_grad_hook(
            lambda parameter: live.hold("gradients", [parameter.grad])
        )
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    live.hold("optimizer states", states)
    if accumulates:
        live.hold("gradients", [parameter.grad for parameter in trained])
    else:
        optimizer.zero_grad()
    with live:
        with live.moment("forward and loss", "activations"):
            loss = _loss(model, torch.zeros(rows, length, dtype=torch.long), args.bf16)
            kept = dict(live.parts)
        with live.moment("backward", "workspace"):
            loss.backward()
        del loss  # which would keep its graph
        with live.moment("optimizer step", "workspace"):
            nn.utils.clip_grad_norm_(trained, 1.0, foreach=True)
            optimizer.step()
    counts = [sum(p.numel() for p in group) for group in (model.parameters(), trained)]
    return Step(*counts, live.peaks, kept)


def _materialise(model: nn.Module) -> None:
    """Move a model from ``meta`` to the CPU, where autocast and SDPA are what they are on a GPU."""
    made: dict[int, Tensor] = {}  # once what two modules share
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    new = torch.empty_like(tensor, device="cpu")
                    if isinstance(tensor, nn.Parameter):
                        new = nn.Parameter(new, tensor.requires_grad)
                    made[id(tensor)] = new
                tensors[name] = made[id(tensor)]


@contextlib.contextmanager
def _one_document() -> Iterator[None]:
    """Spare transformers looking whether position ids begin anew: they have no content.

    It would build a mask, in case they do; of a window that is one text it builds none.
    """
    look = masking_utils.find_packed_sequence_indices
    masking_utils.find_packed_sequence_indices = lambda position_ids: None
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = look


def _loss(model: nn.Module, ids: Tensor, bf16: bool) -> Tensor:
    forward: Callable = model
    if bf16:  # as accelerate wraps the model
        from accelerate.utils import convert_outputs_to_fp32

        forward = convert_outputs_to_fp32(torch.autocast(ids.device.type, torch.bfloat16)(model))
    return forward(input_ids=ids, labels=ids, shift_labels=ids).loss
