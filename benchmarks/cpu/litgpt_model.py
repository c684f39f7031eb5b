# SPDX-License-Identifier: Apache-2.0
"""litgpt's model with the weights of a Hugging Face folder; litgpt is no requirement."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import LlamaConfig


class LitGPT(torch.nn.Module):
    """The model and its loss, as litgpt's own recipes compute it.

    Args:
        folder: a Llama as transformers saves it, in one file of weights.

    Raises:
        ImportError: litgpt is not installed.
    """

    def __init__(self, folder: Path) -> None:
        from litgpt.config import Config
        from litgpt.model import GPT
        from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama

        super().__init__()
        given = LlamaConfig.from_pretrained(folder)
        config = Config(
            block_size=given.max_position_embeddings,
            vocab_size=given.vocab_size,
            padded_vocab_size=given.vocab_size,
            n_layer=given.num_hidden_layers,
            n_embd=given.hidden_size,
            n_head=given.num_attention_heads,
            n_query_groups=given.num_key_value_heads,
            head_size=given.head_dim,
            intermediate_size=given.intermediate_size,
            rotary_percentage=1.0,
            rope_base=int(given.rope_parameters["rope_theta"]),
            parallel_residual=False,
            bias=False,
            norm_class_name="RMSNorm",
            norm_eps=given.rms_norm_eps,
            mlp_class_name="LLaMAMLP",
        )
        self.model = GPT(config)
        weights: dict[str, Any] = {}
        copy_weights_hf_llama(config, {}, weights, load_file(folder / "model.safetensors"))
        self.model.load_state_dict(weights, strict=True)
        if given.tie_word_embeddings:
            self.model.lm_head.weight = self.model.transformer.wte.weight

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of ``labels``, which are shifted already; both [samples, tokens]."""
        from litgpt.utils import chunked_cross_entropy

        logits = self.model(input_ids, lm_head_chunk_size=128)
        return chunked_cross_entropy(logits, labels)
