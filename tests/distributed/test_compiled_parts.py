# SPDX-License-Identifier: Apache-2.0
"""What torch.compile makes of Megatron's parts serves every draw: no graph for a new g or t."""

import json

import pytest

from tests.distributed.corpus import make_corpus
from tests.distributed.layouts import METHOD_FLAGS, RECOMPUTE
from tests.distributed.world import LOADING_ALONE, TINY_MODEL, TINY_TRAINING
from tests.helpers.commands import run_command

pytestmark = pytest.mark.timeout(300)

MICRO_BATCHES = 5
# Every part that torch.compile can make, by flag.
COMPILED = [
    *("--kernel-norm", "compile", "--kernel-swiglu", "compile", "--bf16"),
    *("--kernel-cross-entropy", "compile"),
]
# Functions that are compiled then; bias, dropout and residual by default of Megatron.
PARTS = {"_rms_norm", "swiglu", "swiglu_back", "bias_dropout_add_fused_train"}
PARTS |= {"calculate_logits_max", "calculate_predicted_logits"}
PARTS |= {"calculate_cross_entropy_loss", "calculate_gradients"}
SAMPLE = ["--e2-draw-per", "sample", "--micro-batch-size", "2", "--global-batch-size", "2"]
SETTINGS = {
    "linear": METHOD_FLAGS["e2"],
    "linear, each sample": [*METHOD_FLAGS["e2"], *SAMPLE],
    "yarn, recompute": [*METHOD_FLAGS["e2_yarn"], *RECOMPUTE],
    "yarn, each sample": [*METHOD_FLAGS["e2_yarn"], *SAMPLE],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What every setting drew and compiled."""
    folder = tmp_path_factory.mktemp("compiled")
    common = [*TINY_MODEL, *TINY_TRAINING, *make_corpus(folder), *LOADING_ALONE, *COMPILED]
    common += ["--num-layers", "1", "--global-batch-size", "1"]
    common += ["--train-iters", str(MICRO_BATCHES)]
    spec, found = folder / "spec.json", folder / "results.json"
    spec.write_text(json.dumps({name: [*common, *flags] for name, flags in SETTINGS.items()}))
    run_command("-m", "tests.distributed.compiled_parts", spec, found, timeout=280)
    return json.loads(found.read_text())


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_draw_makes_another_graph(results, setting):
    draws, graphs = results[setting]["draws"], results[setting]["graphs"]
    places = [(scale, offset) for drawn in draws for scale, offset, *_ in drawn]
    assert len(draws) == MICRO_BATCHES
    assert len(set(places)) == len(places) == MICRO_BATCHES * (2 if "each" in setting else 1)
    assert len({scale for scale, _ in places}) > 2
    first, *later = graphs[1:]  # after a micro-batch, forward and backward
    assert first.keys() >= PARTS
    assert later == [first] * (MICRO_BATCHES - 1)
