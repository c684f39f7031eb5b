# SPDX-License-Identifier: Apache-2.0
"""A tiny random Hugging Face model of every family that the converters know."""

import torch

SIZES = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
TOKENS = {"pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}
THETA = {"rope_theta": 10000.0}
LLAMA3 = {
    **{"rope_type": "llama3", "factor": 4.0, "original_max_position_embeddings": 32},
    **{"low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 50000.0},
}
# name: model type, what its config has beside SIZES, flags of the converter
FAMILIES = {
    "llama": ("Llama", {"num_key_value_heads": 4, "rms_norm_eps": 1e-5}, {}),
    "llama3": (
        "Llama",
        {"rope_parameters": LLAMA3, "max_position_embeddings": 128},
        {"rope_scaling": "keep"},
    ),
    "linear": (
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, **THETA}},
        {},
    ),
    "smollm2": (
        "Llama",
        {"tie_word_embeddings": True, "rope_parameters": {"rope_theta": 100000.0}, "head_dim": 24},
        {},
    ),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 32}, {}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}, {}),
    "qwen3": ("Qwen3", {"head_dim": 24}, {}),
    "smollm3": (
        "SmolLM3",
        {**{"tie_word_embeddings": True, "no_rope_layers": [1, 0, 1, 1]}, **TOKENS},
        {},
    ),
}


def make_config(name):
    """The config of one family."""
    import transformers

    kind, more, _ = FAMILIES[name]
    return getattr(transformers, f"{kind}Config")(**{**SIZES, **more})


def make_model(name, dtype=torch.float32):
    """The model of one family with random weights, norms and biases too: ones would hide a swap."""
    import transformers

    torch.manual_seed(len(name))
    model = getattr(transformers, f"{FAMILIES[name][0]}ForCausalLM")(make_config(name))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter.data, mean=0.5 * (parameter.dim() == 1), std=0.2)
    return model.to(dtype).eval()
