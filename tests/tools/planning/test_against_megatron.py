# SPDX-License-Identifier: Apache-2.0
"""Planned bytes and FLOPs against Megatron's own ``theoretical_memory_usage`` and FLOP counter.

Where they differ, the difference is computed here: Megatron's formulas assume GeLU and dropout.
"""

from argparse import Namespace
from dataclasses import replace
from itertools import product

import pytest
from megatron.training.theoretical_memory_usage import (
    compute_activation_memory,
    compute_weight_and_optimizer_memory,
)
from megatron.training.training import num_floating_point_operations

from e2_common.training_time.layout import Layout
from e2_tools.planning import activations
from e2_tools.planning.memory import activation_bytes, static_bytes
from e2_tools.planning.models import MODELS
from e2_tools.planning.run import KERNELS, Run

LAYOUTS = {
    "DP 16": Layout(data=16),
    "TP 2": Layout(tensor=2, data=8, sequence_parallel=True, micro_batches=2),
    "TP 4": Layout(tensor=4, data=4, sequence_parallel=True, micro_batch=2, micro_batches=2),
    "TP 2 PP 2": Layout(tensor=2, pipeline=2, data=4, sequence_parallel=True, micro_batches=4),
    "PP 4, 2 micro-batches": Layout(pipeline=4, data=8, micro_batches=2),
    "TP 8 PP 2 VPP": Layout(
        tensor=8, pipeline=2, virtual=4, sequence_parallel=True, micro_batches=16
    ),
}
CASES = [
    (name, layout)
    for name in ("llama2-7b", "llama2-13b", "llama2-70b", "smollm2-135m")
    for layout in LAYOUTS
    if MODELS[name].sizes.groups % LAYOUTS[layout].tensor == 0
    and MODELS[name].sizes.layers % (LAYOUTS[layout].pipeline * LAYOUTS[layout].virtual) == 0
]


def arguments(model, run):
    """Megatron's arguments of this run."""
    sizes, layout = model.sizes, run.layout
    return Namespace(
        num_layers=sizes.layers,
        hidden_size=sizes.hidden,
        ffn_hidden_size=sizes.ffn,
        num_attention_heads=sizes.heads,
        kv_channels=sizes.head_dim,
        group_query_attention=sizes.groups != sizes.heads,
        num_query_groups=sizes.groups,
        padded_vocab_size=sizes.padded_vocab,
        untie_embeddings_and_output_weights=not sizes.tied,
        swiglu=True,
        normalization="RMSNorm",
        seq_length=layout.window,
        micro_batch_size=layout.micro_batch,
        tensor_model_parallel_size=layout.tensor,
        pipeline_model_parallel_size=layout.pipeline,
        virtual_pipeline_model_parallel_size=layout.virtual if layout.virtual > 1 else None,
        data_parallel_size=layout.data,
        world_size=layout.world,
        use_distributed_optimizer=run.sharding == "distributed-optimizer",
        add_bias_linear=False,
        num_experts=None,
        expert_tensor_parallel_size=1,
        expert_model_parallel_size=1,
        moe_shared_expert_intermediate_size=None,
        moe_latent_size=None,
        moe_ffn_hidden_size=None,
        mtp_num_layers=None,
        multi_latent_attention=False,
        attention_output_gate=False,
        experimental_attention_variant=None,
        hybrid_layer_pattern=None,
        is_hybrid_model=False,
    )


def planned(name, layout, **options):
    layout = LAYOUTS[layout]
    return MODELS[name].padded(layout.tensor), Run(layout, overhead=0, **options)


def test_weights_and_optimizer_are_megatrons():
    for (name, layout), sharding in product(CASES, ["none", "distributed-optimizer"]):
        model, run = planned(name, layout, sharding=sharding)
        stages = run.layout.pipeline
        a_parameter = 18 if sharding == "none" else 6 + 12 / run.layout.data
        theirs = compute_weight_and_optimizer_memory(arguments(model, run))
        # They give every stage its share of the final norm; it lies on the last stage only.
        theirs += model.sizes.hidden * (1 - 1 / stages) * a_parameter
        ours = sum(static_bytes(model, run, stages - 1).values())
        chunks = run.layout.virtual
        padding = 128 * run.layout.data * 18 * chunks if sharding != "none" else 0
        assert theirs <= ours + 1, (name, layout, sharding)
        assert ours <= theirs + padding + 1, (name, layout, sharding)


def test_activations_are_megatrons_with_swiglu_and_rope_and_without_dropout():
    for name, layout in CASES:
        model, run = planned(name, layout, kernels=KERNELS["transformer-engine"])
        if (
            run.layout.tensor == 1
        ):  # their formula is for sequence parallel; with one rank it is alike
            assert not run.layout.sequence_parallel
        run = replace(run, layout=replace(run.layout, recompute="selective"))
        sizes, split = model.sizes, run.layout
        theirs = compute_activation_memory(arguments(model, run), split.micro_batches)
        query, key = sizes.heads * sizes.head_dim, sizes.groups * sizes.head_dim
        per_layer = (
            2 * sizes.ffn  # SwiGLU: two matrices before the product
            - 2 * sizes.hidden  # the masks of two dropouts
            + 2 * (query + key)  # queries and keys before and after their rotation
            - 2 * (sizes.hidden - query)  # projections as wide as the heads,
            - 4 * (sizes.hidden - key)  # and fewer of keys and values
            + 2 * (query - sizes.hidden)
            + 2 * 4  # a scale of each norm in fp32
        )
        in_flight = min(split.micro_batches, split.pipeline)
        if split.virtual > 1:
            in_flight = split.pipeline + (split.pipeline - 1) / split.virtual
        layers = sizes.layers / split.pipeline
        expected = (
            theirs * split.tensor / activations.tokens_of(run) + in_flight * layers * per_layer
        )
        # Embedding's dropout mask; they count every stage's micro-batches, with ours in flight.
        expected -= in_flight * sizes.hidden
        ours = activation_bytes(model, run, 0)
        if split.pipeline == 1:
            ours += activations.tokens_of(run) * activations.head_bytes(model, run)
            expected += 4  # a scale of the final norm
        ours *= split.tensor / activations.tokens_of(run)
        # Ids, masks and targets are not split over tensor ranks, theirs are: bytes a token.
        assert ours == pytest.approx(expected, abs=30 * split.tensor * in_flight), (
            name,
            layout,
        )


def test_flops_are_megatrons():
    for name, layout in CASES:
        model, run = planned(name, layout)
        theirs = num_floating_point_operations(arguments(model, run), batch_size=7)
        tokens = 7 * run.layout.window
        assert tokens * model.sizes.flops(run.layout.window) == pytest.approx(theirs, rel=1e-12), (
            name,
            layout,
        )


def test_flops_a_token_are_the_published_ones():
    """6 x 6.607e9 and 12 L h s, halved by the causal mask; see the anchors in docs/scaling.md."""
    shape = MODELS["llama2-7b"].sizes
    assert shape.layers * shape.layer_parameters + shape.hidden * shape.vocab == 6_607_077_376
    assert shape.flops(4096) / 1e9 == pytest.approx(42.86, abs=0.01)
    assert shape.flops(4096, causal=False) / 1e9 == pytest.approx(46.08, abs=0.01)


def test_parameters_are_the_models():
    """The counts of the published checkpoints."""
    counts = {
        "llama2-7b": 6_738_415_616,
        "llama2-13b": 13_015_864_320,
        "llama2-70b": 68_976_648_192,
        "llama3-8b": 8_030_261_248,
        "smollm2-135m": 134_515_008,
    }
    for name, count in counts.items():
        run = Run(Layout(), sharding="none")
        assert static_bytes(MODELS[name], run, 0)["weights"] == 2 * count


def test_kept_bytes_of_a_layer_are_the_papers():
    """Korthikanti et al. 2022, eq. 2 and 4, for the operations that Llama's layer has."""
    model = MODELS["llama2-7b"]
    run = Run(Layout(micro_batch=1), kernels=KERNELS["transformer-engine"], flash=False)
    kept = activations.layer_bytes(model, run)
    hidden, heads, window = 4096, 32, 4096
    assert kept["attention's probabilities"] == 2 * heads * window  # of 5 a s, 3 are dropout's
    assert kept["norms"] == 2 * (2 * hidden + 4)
    assert kept["inputs of matrices"] == 4 * hidden
