# SPDX-License-Identifier: Apache-2.0
"""The model card's commands of other programs."""

import pytest

from e2_llm.exported import Exported
from e2_llm.window import with_window
from e2_tools.checkpoint.serving_notes import serving_notes
from tests.helpers.families import SIZES


def notes(model_type="llama", rule="linear", window=256):
    plain = {**SIZES, "model_type": model_type, "rope_parameters": {"rope_theta": 10000.0}}
    block = Exported(method="e2", frequencies=rule, rope_theta=10000.0, base_window=64)
    return serving_notes(with_window(block.to_config(plain), window))


@pytest.mark.parametrize(
    ("model_type", "rule", "flags"),
    [
        ("llama", "linear", "`-c 256`; the GGUF file holds the scaling"),
        ("qwen2", "linear", "`-c 256 --rope-scaling linear --rope-freq-scale 0.25`"),
        ("mistral", "yarn", "`-c 256 --rope-scaling yarn --rope-scale 4 --yarn-orig-ctx 64`"),
        ("qwen3", "ntk", "`-c 256`"),
        ("llama", "gene", "no flags"),
    ],
)
def test_llama_cpp(model_type, rule, flags):
    assert f"| llama.cpp | {flags}" in notes(model_type, rule)


def test_the_window_of_every_program():
    text = notes(window=128)
    assert "what serves 128 tokens" in text
    assert "| vLLM | `--max-model-len 128` |" in text
    assert "| sglang | `--context-length 128` |" in text
    assert "transformers ≥ 4.57.6" in text
    assert "Up to 4.48.3 they take W for L in YaRN" in notes(rule="yarn")
    assert "do not scale a Mistral" in notes("mistral")


def test_at_the_pre_trained_window_nothing_is_scaled():
    assert "| llama.cpp | `-c 64` |" in notes("qwen2", window=64)
