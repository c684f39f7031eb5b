# SPDX-License-Identifier: Apache-2.0
"""The models a plan can be made for: some by name, any other by its config.json."""

from dataclasses import dataclass, replace
from pathlib import Path

from e2_common.errors import UserError
from e2_common.model_sizes import ModelSizes


@dataclass(frozen=True)
class Model:
    """A dense RoPE model.

    Attributes:
        name: to show.
        sizes: of its weights; the vocabulary not yet padded.
        window: L, of its pre-training.
        qkv_bias: whether queries, keys and values have biases (Qwen2).
        qk_norm: whether queries and keys are normalised (Qwen3).
    """

    name: str
    sizes: ModelSizes
    window: int
    qkv_bias: bool = False
    qk_norm: bool = False

    def padded(self, tensor: int, divisor: int | None = None) -> "Model":
        """With the vocabulary padded, see :meth:`ModelSizes.padded`."""
        return replace(self, sizes=self.sizes.padded(tensor, divisor))


def _named(
    name: str,
    layers: int,
    hidden: int,
    ffn: int,
    heads: int,
    groups: int,
    vocab: int,
    window: int,
    tied: bool = False,
) -> Model:
    sizes = ModelSizes(layers, hidden, ffn, heads, groups, hidden // heads, vocab, vocab, tied)
    return Model(name, sizes, window)


# From the models' config.json.
MODELS = {
    model.name: model
    for model in (
        _named("llama2-7b", 32, 4096, 11008, 32, 32, 32000, 4096),
        _named("llama2-13b", 40, 5120, 13824, 40, 40, 32000, 4096),
        _named("llama2-70b", 80, 8192, 28672, 64, 8, 32000, 4096),
        _named("llama3-8b", 32, 4096, 14336, 32, 8, 128256, 8192),
        _named("smollm2-135m", 30, 576, 1536, 9, 3, 49152, 8192, tied=True),
    )
}


def find_model(text: str) -> Model:
    """A model by name, or from the Hugging Face directory ``text``.

    Raises:
        UserError: neither, or a model that is not of a known family.
    """
    if text in MODELS:
        return MODELS[text]
    path = Path(text) / "config.json"
    if not path.is_file():
        raise UserError(
            f"--model {text}: neither a directory with a config.json nor one of {', '.join(MODELS)}"
        )
    from e2_tools.checkpoint.families import family_of_config
    from e2_tools.checkpoint.hf_config import complete_config

    config = complete_config(path)
    family = family_of_config(config, path)
    return Model(
        path.resolve().parent.name,
        ModelSizes.from_config(config, path),
        config["max_position_embeddings"],
        qkv_bias=bool(family.megatron.get("add_qkv_bias")),
        qk_norm=bool(family.megatron.get("qk_layernorm")),
    )
