# SPDX-License-Identifier: Apache-2.0
"""One checkpoint, every parallel layout: the same draws, the same losses, the same logits."""

import json
import re

import pytest
import torch
from transformers import AutoModelForCausalLM

from e2_llm import window as window_config
from e2_tools.checkpoint.export import ExportOptions, export
from tests.distributed import on_transformers
from tests.distributed.corpus import make_corpus
from tests.distributed.layouts import AT_JOINTS, DRAWING, HARDEST, LAYOUTS, METHOD_FLAGS
from tests.distributed.world import LOADING_ALONE, TINY_MODEL, TINY_TRAINING, run_world

pytestmark = pytest.mark.timeout(700)  # the world runs within the first test's set-up
LOGIT_LAYOUTS = ["TP1", "TP2", "PP2", "TP2×PP2"]
SCALES = [1.0, 2.0, 4.0]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Every run of this file, in one world of four ranks."""
    folder = tmp_path_factory.mktemp("layouts")
    data = make_corpus(folder)
    start = folder / "start"
    common = [*TINY_MODEL, *TINY_TRAINING, *LOADING_ALONE, *data]
    e2 = ["--e2-max-scale", "8"]
    # As a fine-tune: weights from the start, no optimizer state, the draws from index 0.
    tune = [*common, *e2, "--finetune", "--load", str(start), "--no-load-optim", "--no-load-rng"]
    runs = [
        (
            "start",
            [*common, "--position-method", "none", "--save", str(start), "--save-interval", "10"],
        ),
        *((name, [*tune, *layout]) for name, layout in LAYOUTS.items() if name != "TP1"),
        ("TP1", [*tune, "--save", str(folder / "tuned"), "--save-interval", "10"]),
        (
            "windows",
            [
                *(*tune, *LAYOUTS["VPP"], "--eval-iters", "1"),
                *("--e2-validation-windows", "64", "256"),
                *(
                    "--tensorboard-dir",
                    str(folder / "tensorboard"),
                    "--tensorboard-log-interval",
                    "1",
                ),
            ],
        ),
        ("bf16", [*tune, *LAYOUTS["TP2×PP2"], "--bf16"]),
        ("sample", [*tune, "--e2-draw-per", "sample", "--micro-batch-size", "2"]),
        (
            "sample_tp2pp2",
            [*tune, *LAYOUTS["TP2×PP2"], "--e2-draw-per", "sample", "--micro-batch-size", "2"],
        ),
    ]
    plain = [*common, *tune[len(common) + len(e2) :]]
    for method in DRAWING:
        # Few steps: benchmarks/exactness.py does ten, on every layout, and every method.
        few = [*plain, *METHOD_FLAGS[method], "--train-iters", "3"]
        runs.append((f"{method}/TP1", few))
        runs.append((f"{method}/hardest", [*few, *HARDEST]))
    (folder / "turns").mkdir()
    joints = [*tune[: len(common) - len(data)], *tune[len(common) + len(e2) :]]
    joints += [*make_corpus(folder / "turns", turn=11), *AT_JOINTS, "--train-iters", "3"]
    joints += ["--e2-draw-per", "sample", "--micro-batch-size", "2"]
    joints += ["--eval-iters", "1", "--e2-validation-windows", "32"]
    runs += [("joints/TP1", joints), ("joints/hardest", [*joints, *HARDEST])]
    # Stop and resume, under the same and under another layout.
    saved = [*tune, "--use-distributed-optimizer", "--dist-ckpt-optim-fully-reshardable"]
    stopped = str(folder / "stopped")
    runs.append(
        ("stopped", [*saved, "--save", stopped, "--save-interval", "5", "--exit-interval", "5"])
    )
    resume = [*common, *e2, "--use-distributed-optimizer", "--dist-ckpt-optim-fully-reshardable"]
    runs.append(("resumed", [*resume, "--load", stopped]))
    runs.append(("resharded", [*resume, "--load", stopped, *LAYOUTS["TP2×PP2"]]))
    # Megatron's default format of the optimizer's state, which is for the same layout only.
    default = str(folder / "stopped_default")
    stop = ["--save", default, "--save-interval", "5", "--exit-interval", "5"]
    runs.append(("stopped_default", [*saved[:-1], *stop]))
    runs.append(("resumed_default", [*resume[:-1], "--load", default]))
    tokens = torch.randint(0, 256, (2, 64), generator=torch.Generator().manual_seed(1))
    logits = {name: LAYOUTS[name] for name in LOGIT_LAYOUTS}
    logits |= {
        rule: [*HARDEST[:-6], "--e2-frequencies", rule] for rule in ("yarn", "ntk", "llama3")
    }
    for name, flags in logits.items():
        argv = [*tune, *flags, "--skip-train", "--eval-iters", "1"]
        probe = {"tokens": tokens.tolist(), "scales": SCALES}
        probe["output"] = str(folder / f"logits_{name}.pt")
        argv += ["--e2-validation-windows", "64"]
        runs.append({"name": f"logits_{name}", "argv": argv, "logits_of": probe})
    results = run_world(4, runs, folder)
    for name, argv in (run for run in runs if isinstance(run, tuple)):
        results[name]["argv"] = argv
    return folder, tokens, results


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "TP1"])
def test_losses_agree_across_layouts(world, layout):
    _, _, results = world
    reference, other = results["TP1"], results[layout]
    assert len(reference["losses"]) == 10
    assert other["losses"] == pytest.approx(reference["losses"], rel=1e-4)
    assert other["grad_norms"] == pytest.approx(reference["grad_norms"], rel=1e-3)


def test_every_rank_of_a_model_draws_the_same(world):
    # Ranks 0..3 of TP2 x PP2 are one model: one sequence of draws, and all of the batch's.
    _, _, results = world
    draws = results["TP2×PP2"]["draws"]
    assert draws[0] == draws[1] == draws[2] == draws[3]
    assert len(draws[0]) == 10 * 8
    assert len({tuple(draw) for _, (draw,) in draws[0]}) > 20


def test_data_parallel_ranks_share_out_the_same_draws(world):
    _, _, results = world
    one_model = sorted(map(str, results["TP2×PP2"]["draws"][0]))
    four_models = sorted(map(str, sum(results["TP1"]["draws"], [])))
    assert four_models == one_model


def test_the_log_shows_the_draws(world):
    _, _, results = world
    for step, log in enumerate(results["TP2×PP2"]["log"]):
        draws = [draws[0][:2] for at, draws in results["TP2×PP2"]["draws"][0] if at == 8 * step]
        assert len(draws) == 8
        assert log["e2 scale"] == pytest.approx(sum(scale for scale, _ in draws) / 8)
        assert log["e2 max position"] == 63 + max(offset for _, offset in draws)


def test_draws_per_sample_agree_across_layouts(world):
    _, _, results = world
    reference, other = results["sample"], results["sample_tp2pp2"]
    assert other["losses"] == pytest.approx(reference["losses"], rel=1e-4)
    assert all(len(draws) == 2 for _, draws in reference["draws"][0])


def test_resumed_run_equals_the_uninterrupted_one(world):
    _, _, results = world
    whole, stopped = results["DP4, distributed optimizer"], results["stopped"]
    assert len(stopped["losses"]) == 5
    for name in ("resumed", "resharded", "resumed_default"):
        rest = results[name]
        assert len(rest["losses"]) == 5
        assert stopped["losses"] + rest["losses"] == pytest.approx(whole["losses"], rel=1e-4)
    for rank in range(4):
        assert stopped["draws"][rank] + results["resumed"]["draws"][rank] == whole["draws"][rank]


def test_bf16_follows_fp32(world):
    _, _, results = world
    assert results["bf16"]["losses"] == pytest.approx(results["TP1"]["losses"], rel=2e-2)


def test_one_validation_loss_per_window(world):
    folder, _, _ = world
    log = (folder / "world.log").read_text()
    lines = [line for line in log.splitlines() if "validation loss by window" in line]
    assert lines, log[-3000:]
    assert "iteration 10 | 64: " in lines[0]
    assert " | 256: " in lines[0]
    gain = r"64: [+-][.\d]+ \([.\d]+ with, [.\d]+ without\) \| 256: [+-]"
    assert re.search(f"last quarter, without and with .* at iteration 10 \\| {gain}", log)


def test_tensorboard_has_the_draws_and_a_curve_per_window(world):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _, results = world
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"lm loss validation/window 64", "lm loss validation/window 256"} <= set(tags)
    assert {"context gain/window 64", "context gain/window 256"} <= set(tags)
    shown = [event.value for event in events.Scalars("e2 scale")]
    assert shown == pytest.approx([log["e2 scale"] for log in results["windows"]["log"]])
    assert "e2 max position" in tags


@pytest.mark.parametrize("method", DRAWING)
def test_every_method_agrees_on_the_hardest_layout(world, method):
    _, _, results = world
    reference, other = results[f"{method}/TP1"], results[f"{method}/hardest"]
    assert other["losses"] == pytest.approx(reference["losses"], rel=1e-4)


def test_windows_cut_at_joints_agree_on_the_hardest_layout(world):
    """There most chunks of the model get no tokens."""
    _, _, results = world
    reference, other = results["joints/TP1"], results["joints/hardest"]
    assert {draw[3] for rank in reference["draws"] for _, draws in rank for draw in draws} == {
        "sentences",
        "turns",
    }
    assert other["losses"] == pytest.approx(reference["losses"], rel=1e-4)
    assert other["grad_norms"] == pytest.approx(reference["grad_norms"], rel=1e-3)


def test_every_method_trains_differently(world):
    _, _, results = world
    first = {round(results[f"{method}/TP1"]["losses"][0], 6) for method in DRAWING}
    assert len(first) == len(DRAWING)


@pytest.mark.parametrize("run", [*LOGIT_LAYOUTS, "yarn", "ntk", "llama3"])
@pytest.mark.parametrize("scale", SCALES)
def test_exported_logits_equal_megatrons(world, exported, run, scale):
    folder, tokens, _ = world
    config = json.loads((exported / "config.json").read_text())
    if run not in LOGIT_LAYOUTS:
        config["e2_llm"]["frequencies"] = run
    config = window_config.with_scale(config, scale, 64)
    model = AutoModelForCausalLM.from_pretrained(
        exported, rope_parameters=config["rope_parameters"], dtype=torch.float32
    )
    with torch.no_grad():
        expected = model(tokens).logits
    logits = torch.load(folder / f"logits_{run}.pt")[scale]
    torch.testing.assert_close(logits[..., : expected.size(-1)], expected, atol=1e-4, rtol=0)


def draws_of_all(result):
    """Every micro-batch of a run: the samples before its iteration, and its draws."""
    return sorted(map(str, sum(result["draws"], [])))


@pytest.mark.parametrize("method", [*DRAWING, "TP1", "sample", "joints"])
def test_transformers_draws_the_same_and_learns_the_same(world, exported, method):
    folder, _, results = world
    of_megatron = results[method if method in results else f"{method}/TP1"]
    of_transformers = on_transformers.train(exported, of_megatron["argv"], folder / "tokenizer")
    assert sorted(map(str, of_transformers.draws)) == draws_of_all(of_megatron)
    assert of_transformers.losses == pytest.approx(of_megatron["losses"], abs=1e-4, rel=0)


def test_transformers_ends_in_the_same_weights(world, exported):
    folder, _, results = world
    export(ExportOptions(load=folder / "tuned", save=folder / "tuned-hf"))
    expected = AutoModelForCausalLM.from_pretrained(folder / "tuned-hf").state_dict()
    tuned = on_transformers.train(exported, results["TP1"]["argv"], folder / "tokenizer").model
    before = AutoModelForCausalLM.from_pretrained(exported).state_dict()
    for name, weight in tuned.state_dict().items():
        moved = (expected[name] - before[name]).norm()
        assert moved > 0, name
        assert (weight - expected[name]).norm() <= 1e-3 * expected[name].norm(), name
        assert (weight - expected[name]).norm() <= 2e-2 * moved, name


@pytest.fixture(scope="module")
def exported(world):
    """The start checkpoint, saved at TP1, as a Hugging Face folder."""
    folder, _, _ = world
    export(ExportOptions(load=folder / "start", save=folder / "hf"))
    return folder / "hf"
