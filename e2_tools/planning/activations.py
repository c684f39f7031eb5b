# SPDX-License-Identifier: Apache-2.0
"""What the forward pass keeps for the backward pass, tensor by tensor.

Counted as autograd does: every storage once, weights not. The fused kinds agree with Korthikanti et
al. 2022 (arXiv 2205.05198) less dropout and score matrix; the unfused ones are measured in
``tests/tools/planning``. Symbols: h hidden, f feed-forward, n heads, k groups, d head size, v the
padded vocabulary, all a token; e bytes an element; t tensor ranks.
"""

from e2_tools.planning.models import Model
from e2_tools.planning.run import BYTES, Run

FP32 = 4
INDEX = 8  # bytes of a token's id
HF_LOGITS = 14
"""Bytes a logit when transformers computes the loss in fp32: log-softmax, its gradient, the shifted
slice's gradient (4 each) and the gradient in bf16 (2)."""


def tokens_of(run: Run) -> int:
    """Of a micro-batch, on one rank."""
    layout = run.layout
    return layout.window * layout.micro_batch // layout.context


def _tensor_shares(run: Run) -> tuple[int, int]:
    """Among how many ranks norms and residuals are split, and matrices' outputs."""
    tensor = run.layout.tensor
    return (tensor if run.layout.sequence_parallel else 1), tensor


def norm_bytes(model: Model, run: Run) -> float:
    """An RMSNorm's: its input and one scale a token; unfused, input and result in fp32."""
    share, _ = _tensor_shares(run)
    hidden = model.sizes.hidden
    kept = BYTES[run.precision] * hidden if run.kernels.norm else 2 * FP32 * hidden
    return (kept + FP32) / share


def layer_bytes(model: Model, run: Run) -> dict[str, float]:
    """Bytes that a layer keeps, by operation; a token of a micro-batch."""
    sizes, layout = model.sizes, run.layout
    e = BYTES[run.precision]
    share, tensor = _tensor_shares(run)
    query, key = sizes.heads * sizes.head_dim, sizes.groups * sizes.head_dim
    kept = {
        "norms": 2 * norm_bytes(model, run),
        # The fused projection's output stays whole: the value is a view of it.
        "query, key, value": e * (query + 2 * key) / tensor,
        "rotated query, key": e * (query + key) / tensor,
        "attention's result": e * query / tensor,
        "inputs of matrices": 2 * e * sizes.hidden / share,
        "gate and up": 2 * e * sizes.ffn / tensor,
        "input of down": e * sizes.ffn / tensor,
    }
    if run.flash:
        if layout.recompute != "selective":
            kept["attention's normalisers"] = FP32 * sizes.heads / tensor
    elif layout.recompute != "selective":
        kept["attention's probabilities"] = e * sizes.heads * layout.window / tensor
    if model.qk_norm:
        norms = (sizes.heads + sizes.groups) * (
            FP32 if run.kernels.norm else FP32 + 8 * sizes.head_dim
        )
        kept["norms of query, key"] = norms / tensor
    if not run.kernels.rope:
        # Cosine and sine, for query and key, of the micro-batch's positions.
        kept["cosines and sines"] = 4 * e * sizes.head_dim / layout.micro_batch
    if not run.kernels.swiglu:
        kept["parts of SwiGLU"] = 2 * e * sizes.ffn / tensor
    return kept


def checkpoint_bytes(model: Model, run: Run) -> float:
    """What a recomputed layer keeps, its input; a token."""
    share, _ = _tensor_shares(run)
    return BYTES[run.precision] * model.sizes.hidden / share


def recomputed_bytes(model: Model, run: Run) -> float:
    """What recomputing a layer adds; its input is there already, unless only as an fp32 copy."""
    added = sum(layer_bytes(model, run).values())
    copied = not run.kernels.norm and run.precision != "fp32"
    return added if copied else added - checkpoint_bytes(model, run)


def embedding_bytes(run: Run) -> float:
    """The token ids; over several tensor ranks also their mask and the shifted ids."""
    return INDEX if run.layout.tensor == 1 else INDEX + 1


def head_bytes(model: Model, run: Run) -> float:
    """From the final norm to the loss: the norm, the output layer's input, the probabilities in
    fp32, a mask and the targets; a token."""
    share, tensor = _tensor_shares(run)
    norm = norm_bytes(model, run) + BYTES[run.precision] * model.sizes.hidden / share
    return norm + FP32 * model.sizes.padded_vocab / tensor + 1 + INDEX


def logits_workspace(model: Model, run: Run) -> float:
    """Beside the probabilities: logits, or their gradient, in bf16; in fp32 they are the same."""
    e = BYTES[run.precision]
    return 0 if e == FP32 else e * model.sizes.padded_vocab / run.layout.tensor


def backward_workspace(model: Model, run: Run) -> float:
    """Gradients on their way through the feed-forward part, the largest of a layer; a token."""
    e = BYTES[run.precision]
    return e * (3 * model.sizes.ffn / run.layout.tensor + 2 * model.sizes.hidden)


def rotary_bytes(model: Model, run: Run) -> float:
    """The angles of a micro-batch's positions, fp32, which recomputed layers share; a token."""
    return FP32 * model.sizes.head_dim / run.layout.micro_batch
