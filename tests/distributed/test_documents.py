# SPDX-License-Identifier: Apache-2.0
"""Documents of a window that do not see each other: what transformers says of each one alone."""

import itertools
import json
import random
import re

import pytest
import torch
from transformers import AutoModelForCausalLM

from e2_llm import window as window_config
from e2_llm.placements import PLACEMENTS, Settings
from e2_llm.sampler import Draw
from e2_tools.checkpoint.export import ExportOptions, export
from tests.distributed.corpus import make_tokenizer, write_dataset
from tests.distributed.layouts import LAYOUTS, METHOD_FLAGS, RECOMPUTE
from tests.distributed.windows import build
from tests.distributed.world import LOADING_ALONE, TINY_MODEL, TINY_TRAINING, run_world

pytestmark = pytest.mark.timeout(400)  # the world runs within the first test's set-up
WINDOW, STEPS, BATCH, SEED = 64, 3, 8, 3
APART = "--dataloader-inter-document-masking"
# Some are longer than a window, some end where it does; the shortest is shorter than what is kept.
LENGTHS = [3, 64, 17, 40, 200, 7, 128, 1, 30, 65, 22, 90]
ALONE = {
    "none": METHOD_FLAGS["none"],
    "e2": METHOD_FLAGS["e2"],
    "e2_yarn": METHOD_FLAGS["e2_yarn"],
    "sample": [*METHOD_FLAGS["e2"], "--e2-draw-per", "sample", "--micro-batch-size", "2"],
    "e2_sentences": METHOD_FLAGS["e2_sentences"],
}
# Stages in the middle have no tokens, and chunks of a stage come in another order and once more.
OTHERS = {
    "PP4": ["--pipeline-model-parallel-size", "4"],
    "TP2×PP2": LAYOUTS["TP2×PP2"],
    "hardest": [*LAYOUTS["VPP"], *LAYOUTS["TP2+SP"], *RECOMPUTE],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Every run of this file, in one world of four ranks."""
    folder = tmp_path_factory.mktemp("documents")
    choose = random.Random(0)
    texts = [[choose.randrange(2, 256) for _ in range(size - 1)] + [0] for size in LENGTHS * 8]
    write_dataset(folder / "corpus", texts)
    common = [*TINY_MODEL, *TINY_TRAINING, *LOADING_ALONE, "--split", "100,0,0"]
    common += ["--data-path", str(folder / "corpus"), "--seed", str(SEED)]
    common += ["--tokenizer-type", "HuggingFaceTokenizer"]
    common += ["--tokenizer-model", str(make_tokenizer(folder)), "--train-iters", str(STEPS)]
    start, stopped = str(folder / "start"), str(folder / "stopped")
    saved = ["--save", start, "--save-interval", str(STEPS), "--position-method", "none"]
    # Else positions hardly matter to so small and so new a model.
    saved += ["--init-method-std", "0.3", "--lr", "1e-2"]
    tune = [*common, "--finetune", "--load", start, "--no-load-optim", "--no-load-rng"]
    still = [*tune, "--lr", "0", "--min-lr", "0", APART]
    windows = ["--split", "90,10,0", "--eval-iters", "1", "--e2-validation-windows", "32", "128"]
    moving = [*tune, *METHOD_FLAGS["e2_yarn"], *windows, APART]
    stop = ["--save", stopped, "--save-interval", "2", "--exit-interval", "2"]
    runs = [("start", [*common, *saved])]
    runs += [(name, [*still, *flags]) for name, flags in ALONE.items()]
    runs += [("together", [word for word in moving if word != APART])]
    runs += [("TP1", moving), *((name, [*moving, *flags]) for name, flags in OTHERS.items())]
    runs += [("stopped", [*moving, *LAYOUTS["TP2×PP2"], *stop])]
    resumed = [*common, *METHOD_FLAGS["e2_yarn"], *windows, APART, "--load", stopped]
    runs += [("resumed", [*resumed, *LAYOUTS["TP2×PP2"]])]
    results = run_world(4, runs, folder, timeout=350)
    export(ExportOptions(load=folder / "start", save=folder / "hf"))
    return folder, results


def pieces(window):
    """The documents of a window: ids and labels of each, cut after every EOD."""
    ends = [number + 1 for number, word in enumerate(window["tokens"].tolist()) if word == 0]
    for begin, end in itertools.pairwise(sorted({0, *ends, WINDOW})):
        yield window["tokens"][begin:end], window["labels"][begin:end]


def model_at(folder, scale, method):
    config = json.loads((folder / "config.json").read_text())
    config["e2_llm"]["frequencies"] = "yarn" if "yarn" in ALONE[method] else "linear"
    config = window_config.with_scale(config, scale, WINDOW)
    return AutoModelForCausalLM.from_pretrained(
        folder, rope_parameters=config["rope_parameters"], dtype=torch.float32
    )


def draws_of_samples(draws, micro_batch_size):
    """Sample index -> draw, from what each of four data-parallel ranks drew."""
    drawn = {}
    for rank, micro_batches in enumerate(draws):
        numbers = {}
        for consumed, of_one in micro_batches:
            number = numbers.setdefault(consumed, itertools.count())
            first = consumed + (next(number) * 4 + rank) * micro_batch_size
            for place in range(micro_batch_size):
                drawn[first + place] = Draw(*of_one[place % len(of_one)])
    return drawn


def places_of(draw, tokens):
    """Where the tokens of a document lie, for transformers."""
    places = torch.arange(len(tokens))
    if draw.placement == "sentences":
        # A sentence ends with every 16th token of the tokenizer.
        joints = [number + 1 for number, word in enumerate(tokens.tolist()) if word % 16 == 2]
        at_joints = PLACEMENTS["sentences"](Settings(WINDOW, WINDOW))
        return at_joints.places(draw, len(tokens), joints=joints).long()
    places[4:] += draw.offset
    return places


@pytest.mark.parametrize("method", ALONE)
@torch.no_grad()
def test_the_loss_is_that_of_every_document_alone(world, method):
    folder, results = world
    windows = build(folder / "corpus", window=WINDOW, split="100,0,0", sizes=(STEPS * BATCH, 0, 0))
    kinds = set()
    drawn = draws_of_samples(results[method]["draws"], 2 if method == "sample" else 1)
    assert len(drawn) == STEPS * BATCH
    for step, loss in enumerate(results[method]["losses"]):
        total = 0.0
        for index in range(step * BATCH, (step + 1) * BATCH):
            draw = drawn[index]
            model = model_at(folder / "hf", draw.scale, method)
            window = windows[0][index]
            for tokens, labels in pieces(window):
                places = places_of(draw, tokens)
                kinds.add("cut" if len(tokens) > 4 and places[-1] >= len(tokens) else "")
                logits = model(tokens[None], position_ids=places[None]).logits[0]
                total += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
                kinds.add("short" if len(tokens) <= 4 else "")
            ids = window["tokens"].tolist()
            kinds.add("no end" if 0 not in ids else "ends with it" if ids[-1] == 0 else "several")
        assert loss == pytest.approx(total / (BATCH * WINDOW), rel=1e-5)
    assert {"short", "no end", "ends with it", "several"} <= kinds
    assert method == "none" or "cut" in kinds


@pytest.mark.parametrize("layout", OTHERS)
def test_every_layout_agrees(world, layout):
    _, results = world
    reference, other = results["TP1"], results[layout]
    assert len(reference["losses"]) == STEPS
    assert other["losses"] == pytest.approx(reference["losses"], rel=1e-4)
    assert other["grad_norms"] == pytest.approx(reference["grad_norms"], rel=1e-3)
    # The draws are those of windows whose documents see each other; the losses are not.
    assert sorted(map(str, sum(results["together"]["draws"], []))) == sorted(
        map(str, sum(reference["draws"], []))
    )
    assert results["together"]["losses"][0] != pytest.approx(reference["losses"][0], rel=1e-4)


def test_validation_by_window_agrees_too(world):
    folder, _ = world
    losses = {}
    for part in (folder / "world.log").read_text().split("===== ")[1:]:
        name = part.split("\n", 1)[0].split(" ", 1)[1]
        found = re.findall(r"loss by window at iteration \d+ \| 32: (\S+) \| 128: (\S+)", part)
        losses[name] = [float(loss) for pair in found for loss in pair]
    assert len(losses["TP1"]) == 2
    for layout in OTHERS:
        assert losses[layout] == pytest.approx(losses["TP1"], rel=1e-4)
    assert losses["together"] != pytest.approx(losses["TP1"], rel=1e-4)


def test_a_resumed_run_goes_on(world):
    _, results = world
    parts = results["stopped"]["losses"] + results["resumed"]["losses"]
    assert parts == pytest.approx(results["TP1"]["losses"], rel=1e-4)
