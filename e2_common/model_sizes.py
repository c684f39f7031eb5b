# SPDX-License-Identifier: Apache-2.0
"""The sizes of a dense model: where they are read from, its parameters, its FLOPs.

Model FLOPs count every matrix product three times (forward, and backward for inputs and weights),
2 FLOPs a multiply-add, and nothing that is recomputed. Two conventions for attention are in use:
``causal`` counts the half of the score matrix that a causal mask leaves (Megatron's own counter),
``full`` all of it (the PaLM paper, NVIDIA's published figures).
"""

import argparse
import math
from dataclasses import dataclass, replace
from typing import Any

from e2_common.errors import UserError

LARGEST_TP = 8  # up to which the suggested padding leaves the vocabulary alone, if it can


@dataclass(frozen=True)
class ModelSizes:
    """Everything that the shapes of a dense GPT model's weights are made of.

    Attributes:
        layers: number of them.
        hidden: h.
        ffn: f, of the feed-forward part.
        heads: n, of queries.
        groups: k, of keys and values.
        head_dim: d.
        vocab: the true vocabulary; None where only the tokenizer knows it.
        padded_vocab: rows of Megatron's embedding and output layer; None where it is not said.
        tied: whether the output layer is the embedding.
        gated: whether the feed-forward part has three matrices (SwiGLU) or two.
    """

    layers: int
    hidden: int
    ffn: int
    heads: int
    groups: int
    head_dim: int
    vocab: int | None
    padded_vocab: int | None
    tied: bool
    gated: bool = True

    @classmethod
    def from_config(cls, config: dict[str, Any], path: object) -> "ModelSizes":
        """Read a complete config.json; the vocabulary is not padded.

        Args:
            config: of Hugging Face, with its defaults filled in.
            path: of the file, for messages.

        Raises:
            UserError: a size is missing or they contradict each other.
        """
        try:
            heads = config["num_attention_heads"]
            sizes = cls(
                layers=config["num_hidden_layers"],
                hidden=config["hidden_size"],
                ffn=config["intermediate_size"],
                heads=heads,
                groups=config.get("num_key_value_heads") or heads,
                head_dim=config.get("head_dim") or config["hidden_size"] // heads,
                vocab=config["vocab_size"],
                padded_vocab=config["vocab_size"],
                tied=bool(config["tie_word_embeddings"]),
            )
        except KeyError as error:
            raise UserError(f"{path}: lacks {error.args[0]}") from error
        if sizes.heads % sizes.groups:
            raise UserError(
                f"{path}: num_attention_heads {sizes.heads} is no multiple of "
                f"num_key_value_heads {sizes.groups}"
            )
        return sizes

    def llama_config(self, window: int) -> dict[str, Any]:
        """The keys of the config.json of a Llama of these sizes, whose L is ``window`` tokens."""
        return {
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.groups,
            "head_dim": self.head_dim,
            "max_position_embeddings": window,
            "tie_word_embeddings": self.tied,
        }

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> "ModelSizes":
        """Read Megatron's arguments, those of this run or those stored in a checkpoint.

        Raises:
            AttributeError: they lack one that every model has.
        """
        heads = args.num_attention_heads
        return cls(
            layers=args.num_layers,
            hidden=args.hidden_size,
            ffn=args.ffn_hidden_size,
            heads=heads,
            groups=query_groups(args),
            head_dim=getattr(args, "kv_channels", None) or args.hidden_size // heads,
            vocab=getattr(args, "vocab_size", None),
            padded_vocab=getattr(args, "padded_vocab_size", None),
            tied=not args.untie_embeddings_and_output_weights,
            gated=getattr(args, "swiglu", True),
        )

    def padded(self, tensor: int, divisor: int | None = None) -> "ModelSizes":
        """The same with the vocabulary padded as Megatron does.

        Args:
            tensor: tensor-parallel size.
            divisor: ``--make-vocab-size-divisible-by``; default: what the converter suggests.
        """
        multiple = (divisor or vocab_divisor(self.vocab)) * tensor
        return replace(self, padded_vocab=math.ceil(self.vocab / multiple) * multiple)

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer's matrices."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.groups)
        return attention + (3 if self.gated else 2) * self.hidden * self.ffn

    @property
    def parameters(self) -> int:
        """Of the model: matrices and the norms of hidden states; biases and others left out."""
        norms = (2 * self.layers + 1) * self.hidden
        embeddings = (1 if self.tied else 2) * self.padded_vocab * self.hidden
        return self.layers * self.layer_parameters + embeddings + norms

    def attention_flops(self, window: int, causal: bool = True) -> float:
        """Of a layer's scores and their product with the values, a token, forward and backward."""
        return 12 * self.heads * self.head_dim * window / (2 if causal else 1)

    def layer_flops(self, window: int, causal: bool = True) -> float:
        """Of a layer, a token, forward and backward."""
        return 6 * self.layer_parameters + self.attention_flops(window, causal)

    def flops(self, window: int, causal: bool = True) -> float:
        """Of the model, a token of a window of ``window`` tokens, forward and backward."""
        output_layer = 6 * self.hidden * self.padded_vocab
        return self.layers * self.layer_flops(window, causal) + output_layer


def query_groups(args: argparse.Namespace) -> int:
    """The number of key and value heads that Megatron's arguments ask for."""
    if getattr(args, "group_query_attention", False):
        return args.num_query_groups
    return args.num_attention_heads  # Megatron writes this into the other only while training


def vocab_divisor(vocab: int) -> int:
    """The suggested ``--make-vocab-size-divisible-by``: layouts up to TP 8 then pad alike."""
    return max(1, math.gcd(vocab, 1024) // LARGEST_TP)
