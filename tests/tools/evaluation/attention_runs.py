# SPDX-License-Identifier: Apache-2.0
"""Runs plot_attention.py, and computes what it should find with transformers' eager attention."""

import json

import torch

from e2_tools.commands.plot_attention import main


def run(model, text, output, *flags):
    arguments = ["--model", model, "--text", text, "--output", output, "--dtype", "fp32"]
    main([str(argument) for argument in (*arguments, "--device", "cpu", *flags)])
    return json.loads(output.with_suffix(".json").read_text())


def eager_rows(model, prompt, answer, layers, heads):
    """[layers, generated, input + generated - 1] from one forward pass of eager attention."""
    ids = torch.tensor([[*prompt, *answer[:-1]]])
    model.set_attn_implementation("eager")
    with torch.no_grad():
        found = model(ids, output_attentions=True, use_cache=False).attentions
    model.set_attn_implementation("sdpa")
    begin = len(prompt) - 1
    chosen = slice(None) if heads is None else heads
    return torch.stack([found[layer][0, chosen, begin:].mean(0) for layer in layers])
