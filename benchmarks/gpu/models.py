# SPDX-License-Identifier: Apache-2.0
"""The measured models, and how many of their layers fit into a GPU.

h: hidden size, f: width of the MLP, n: heads, s: tokens of a window, L: layers.
"""

from dataclasses import dataclass, replace

from e2_common.model_sizes import ModelSizes
from e2_common.training_time.gpus import GPUS
from e2_tools.planning.models import MODELS, Model

GIB = 2**30
PEAK = GPUS["H100"].peak  # the same as an H200's

PRESETS = {name: MODELS[name] for name in ("llama2-7b", "llama2-13b")}
PRESETS["tiny"] = Model("tiny", ModelSizes(2, 64, 160, 4, 4, 16, 256, 256, tied=False), 64)


def cut(sizes: ModelSizes, layers: int) -> ModelSizes:
    """The same model with fewer layers."""
    return replace(sizes, layers=layers)


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


def activation_bytes(sizes: ModelSizes) -> int:
    """Bytes a token and layer keep for the backward pass, in bf16 with fused kernels.

    20 h: inputs and outputs of norms, projections and attention; 6 f: input and output of SwiGLU;
    4 n and 16: statistics of softmax and norms. 148,112 for Llama-2-7B.
    """
    return 20 * sizes.hidden + 6 * sizes.ffn + 4 * sizes.heads + 16


def needed_bytes(model: Model, demand: Demand, layers: int, samples: int) -> float:
    """Memory of one GPU without recompute.

    Args:
        model: without grouped queries.
        demand: of the way of training.
        layers: L.
        samples: of a micro-batch.
    """
    sizes, window = cut(model.sizes, layers), model.window
    tokens = samples * window
    static = sizes.parameters * (demand.state + demand.at_step)
    kept = layers * tokens * activation_bytes(sizes) * demand.activations
    logits = 8 * tokens * sizes.vocab  # bf16 once and fp32, or its gradient
    scores = 2 * demand.scores * samples * sizes.heads * window**2
    return static + kept + logits + scores + 2.5 * GIB  # context, workspaces, fragments


def layers_that_fit(model: Model, demand: Demand, capacity: float, samples: int) -> int:
    """The largest number of layers, at most the model's, within ``capacity`` bytes; may be 0."""
    return max(
        (
            layers
            for layers in range(1, model.sizes.layers + 1)
            if needed_bytes(model, demand, layers, samples) <= capacity
        ),
        default=0,
    )
