# SPDX-License-Identifier: Apache-2.0
"""Ten steps on Megatron and on transformers: the same draws, losses and weights, any placement."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from e2_llm.placements import PLACEMENTS
from e2_tools.checkpoint.export import ExportOptions, export
from e2_tools.checkpoint.import_hf import ImportOptions, import_model
from tests.distributed import on_transformers
from tests.distributed.corpus import make_corpus
from tests.distributed.world import LOADING_ALONE, TINY_TRAINING, run_world
from tests.helpers.families import FAMILIES, make_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
YARN = ["--e2-frequencies", "yarn", "--e2-scale-distribution", "log-uniform"]
SAMPLES = ["--e2-draw-per", "sample", "--micro-batch-size", "2"]
RUNS = {
    "linear": [],
    "yarn": YARN,
    "best, for each sample": ["--e2-recipe", "best", *SAMPLES],
    "for each iteration": ["--e2-draw-per", "iteration"],
    "documents apart": ["--dataloader-inter-document-masking", *SAMPLES],
    "documents apart, joints": [
        *("--dataloader-inter-document-masking", "--eod-mask-loss", "--e2-placement", "turns"),
    ],
    **{name: [*YARN, *SAMPLES, "--e2-placement", name] for name in PLACEMENTS},
}
# Of the other families one run each: what differs is the model, not the positions.
MODELS = dict.fromkeys(RUNS, "llama") | {
    name: name for name in FAMILIES if name not in ("llama", "llama3")
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("on_transformers")
    data = make_corpus(folder, turn=11)
    common = [*TINY_TRAINING, *LOADING_ALONE, *data, "--e2-max-scale", "8", "--seq-length", "32"]
    common.append(on_transformers.PER_TOKEN)
    runs = []
    for family in dict.fromkeys(MODELS.values()):
        make_model(family).save_pretrained(folder / family)
        import_model(ImportOptions(hf_model=folder / family, save=folder / f"{family}-m"))
    for name, family in MODELS.items():
        argv = [*common, *RUNS.get(name, ["--e2-recipe", "best"]), "--use-checkpoint-args"]
        argv += ["--no-use-tokenizer-model-from-checkpoint-args"]
        argv += ["--pretrained-checkpoint", str(folder / f"{family}-m"), "--save-interval", "10"]
        runs.append((name, [*argv, "--save", str(folder / name)]))
    return folder, dict(runs), run_world(1, runs, folder, timeout=800)


@pytest.mark.parametrize("name", MODELS)
def test_both_engines_train_the_same_model(world, name):
    folder, commands, results = world
    base = folder / MODELS[name]
    ours = on_transformers.train(base, commands[name], folder / "tokenizer")
    assert sorted(map(str, ours.draws)) == sorted(map(str, sum(results[name]["draws"], [])))
    assert len({str(draws) for _, draws in ours.draws}) > 3
    assert ours.losses == pytest.approx(results[name]["losses"], abs=1e-4, rel=0)

    saved = folder / f"{name}-hf"
    export(ExportOptions(load=folder / name, save=saved, hf_model=base))
    expected = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32).state_dict()
    before = AutoModelForCausalLM.from_pretrained(base).state_dict()
    for key, weight in ours.model.state_dict().items():
        off = (weight - expected[key]).norm()
        assert (expected[key] - before[key]).norm() > 10 * off, key
        assert off <= 1e-3 * expected[key].norm(), key
