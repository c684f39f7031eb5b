# SPDX-License-Identifier: Apache-2.0
"""Stands in for WindowValidation: saves the model's logits at several scales, at any layout."""

import torch
from megatron.core import mpu, tensor_parallel
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.utils import get_attr_wrapped_model

from e2_llm.sampler import Draw
from megatron_patches.training.step import set_draws


class LogitsProbe:
    def __init__(self, spec):
        self.tokens = torch.tensor(spec["tokens"])  # [b, s]
        self.scales = spec["scales"]
        self.output = spec["output"]

    def __call__(self, model):
        logits = {scale: self.logits(model, scale) for scale in self.scales}
        is_writer = mpu.get_tensor_model_parallel_rank() == 0 and mpu.get_data_parallel_rank() == 0
        if mpu.is_pipeline_last_stage() and is_writer:
            torch.save(logits, self.output)
        return {}

    def log(self, losses, iteration, writer):
        pass

    def logits(self, model, scale):
        batch, length = self.tokens.shape

        def forward_step(data_iterator, chunk):
            set_draws(chunk, [Draw(scale, 0)])
            positions = torch.arange(length).expand(batch, length)
            output = chunk(self.tokens, positions, None)
            return output, lambda output, non_loss_data: output

        outputs = get_forward_backward_func()(
            forward_step_func=forward_step,
            data_iterator=[None] * len(model) if len(model) > 1 else None,
            model=model,
            num_microbatches=2,
            seq_length=length,
            micro_batch_size=batch,
            forward_only=True,
            collect_non_loss_data=True,
        )
        if not outputs:
            return None
        gathered = tensor_parallel.gather_from_tensor_model_parallel_region(outputs[0])
        vocab = get_attr_wrapped_model(model[-1], "vocab_size")
        return gathered[..., :vocab].float()  # [b, s, V]
