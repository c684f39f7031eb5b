# SPDX-License-Identifier: Apache-2.0
"""Heads for later tokens (--mtp-num-layers): the same on one stage and on several."""

import pytest

from tests.distributed.corpus import make_corpus
from tests.distributed.layouts import LAYOUTS
from tests.distributed.world import LOADING_ALONE, TINY_MODEL, TINY_TRAINING, run_world

OTHERS = {
    "PP2": LAYOUTS["PP2"],
    "PP4": ["--pipeline-model-parallel-size", "4"],
    "VPP, TP2": [*LAYOUTS["VPP"], *LAYOUTS["TP2"]],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("later")
    common = [*TINY_MODEL, *TINY_TRAINING, *LOADING_ALONE, *make_corpus(folder)]
    common += ["--mtp-num-layers", "1", "--e2-max-scale", "8", "--train-iters", "3"]
    start = str(folder / "start")
    tune = [*common, "--finetune", "--load", start, "--no-load-optim", "--no-load-rng"]
    runs = [("start", [*common, "--save", start, "--save-interval", "3"]), ("PP1", tune)]
    runs += [(name, [*tune, *flags]) for name, flags in OTHERS.items()]
    return run_world(4, runs, folder)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("layout", OTHERS)
def test_stages_agree(world, layout):
    assert len(world["PP1"]["losses"]) == 3
    assert world[layout]["losses"] == pytest.approx(world["PP1"]["losses"], rel=1e-4)
    assert world[layout]["grad_norms"] == pytest.approx(world["PP1"]["grad_norms"], rel=1e-3)
