# SPDX-License-Identifier: Apache-2.0
"""Sizes of the measured models, their FLOPs, and how many layers fit into a GPU.

h: hidden size, f: width of the MLP, n: heads, V: vocabulary, s: tokens of a window, L: layers.
"""

from dataclasses import dataclass

GIB = 2**30
PEAK_TFLOPS = 989.0  # dense bf16 of an H100 or H200 SXM, by its data sheet


@dataclass(frozen=True)
class Shape:
    """A Llama without grouped queries."""

    hidden: int
    mlp: int
    heads: int
    layers: int
    vocabulary: int
    window: int

    @property
    def layer_parameters(self) -> int:
        """Of one layer, without its two norms."""
        return 4 * self.hidden**2 + 3 * self.hidden * self.mlp

    def parameters(self, layers: int) -> int:
        """Of all matrices and norms; embedding and output layer are apart from each other."""
        norms = (2 * layers + 1) * self.hidden
        return layers * self.layer_parameters + 2 * self.vocabulary * self.hidden + norms

    def flops_per_token(self, layers: int, causal: bool) -> float:
        """6 x (parameters that multiply) + attention, forward and backward.

        Attention is 12 L h s (two products of 2 h s each way, backward twice) by the convention
        that counts the whole score matrix, half of it by the one that counts the causal half.
        """
        products = layers * self.layer_parameters + self.vocabulary * self.hidden
        attention = 12 * layers * self.hidden * self.window
        return 6 * products + attention * (0.5 if causal else 1.0)


PRESETS = {
    "llama2-7b": Shape(4096, 11008, 32, 32, 32000, 4096),
    "llama2-13b": Shape(5120, 13824, 40, 40, 32000, 4096),
    "tiny": Shape(64, 160, 4, 2, 256, 64),
}


@dataclass(frozen=True)
class Demand:
    """What a way of training asks of the memory.

    ``state``: bytes a parameter for weights, gradients and optimizer. ``at_step``: more of them
    while the optimizer steps. ``activations``: beside ours, by which factor. ``scores``: copies of
    one layer's score matrix, in bf16, that are alive at once.
    """

    state: float
    at_step: float
    activations: float
    scores: int
    why: str


# bf16 weight 2, fp32 gradient 4, master weight 4, both moments 8.
DEMANDS = {
    "ours": Demand(18, 0, 1.0, 0, "18 bytes a parameter"),
    "stock": Demand(18, 8, 1.3, 4, "18 and 8 more at the step (foreach AdamW), s x s scores"),
    "transformers": Demand(20, 0, 1.4, 0, "20: a bf16 gradient beside the fp32 sum"),
}


def activation_bytes(shape: Shape) -> int:
    """Bytes a token and layer keep for the backward pass, in bf16 with fused kernels.

    20 h: inputs and outputs of norms, projections and attention; 6 f: input and output of SwiGLU;
    4 n and 16: statistics of softmax and norms. 148,112 for Llama-2-7B.
    """
    return 20 * shape.hidden + 6 * shape.mlp + 4 * shape.heads + 16


def needed_bytes(shape: Shape, demand: Demand, layers: int, samples: int) -> float:
    """Memory of one GPU without recompute.

    Args:
        shape: of the model.
        demand: of the way of training.
        layers: L.
        samples: of a micro-batch.
    """
    tokens = samples * shape.window
    static = shape.parameters(layers) * (demand.state + demand.at_step)
    kept = layers * tokens * activation_bytes(shape) * demand.activations
    logits = 8 * tokens * shape.vocabulary  # bf16 once and fp32, or its gradient
    scores = 2 * demand.scores * samples * shape.heads * shape.window**2
    return static + kept + logits + scores + 2.5 * GIB  # context, workspaces, fragments


def layers_that_fit(shape: Shape, demand: Demand, capacity: float, samples: int) -> int:
    """The largest number of layers, at most the model's, within ``capacity`` bytes; may be 0."""
    return max(
        (
            layers
            for layers in range(1, shape.layers + 1)
            if needed_bytes(shape, demand, layers, samples) <= capacity
        ),
        default=0,
    )
