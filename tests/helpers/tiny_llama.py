# SPDX-License-Identifier: Apache-2.0
"""A tiny random Llama that reads any text, byte by byte: for tests that generate."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from e2_llm.exported import Exported

BASE_WINDOW = 256  # tokens, so bytes
BOS, EOS = 0, 1


def save_random_llama(path: Path, vocabulary: int, window: int, **more: Any) -> None:
    """Save a model without a tokenizer to ``path``, as E2-LLM would export it."""
    torch.manual_seed(0)
    more |= Exported(method="e2", rope_theta=10000.0, base_window=window).to_config({})
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=window,
        initializer_range=0.5,  # far from uniform predictions, so that positions matter
        **more,
    )
    LlamaForCausalLM(config).save_pretrained(path)


def make_tiny_llama(path: Path) -> Path:
    """Save it to ``path``; its tokenizer puts a BOS before a text."""
    save_random_llama(path, 258, BASE_WINDOW, bos_token_id=BOS, eos_token_id=EOS)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", BOS)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    ).save_pretrained(path)
    return path


def is_greedy(path, config, ids, answer):
    """Whether every token of an answer is the likeliest after those before it.

    One plain forward pass of a model built from ``config``: no cache, no batch, no generate().
    """
    model = LlamaForCausalLM(LlamaConfig.from_dict(config))
    model.load_state_dict(load_file(path / "model.safetensors"))
    with torch.no_grad():
        logits = model.eval()(torch.tensor([[*ids, *answer]]), use_cache=False).logits[0]
    return bool(answer) and logits[len(ids) - 1 : -1].argmax(-1).tolist() == answer
