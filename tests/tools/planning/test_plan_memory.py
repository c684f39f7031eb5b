# SPDX-License-Identifier: Apache-2.0
"""plan_memory.py: what it prints, refuses and suggests; the recipes fit."""

import json
import os
import re
import shlex
from argparse import Namespace
from dataclasses import replace

import pytest

from e2_common.training_time.gpus import GPUS, known_gpu
from e2_common.training_time.layout import Layout
from e2_common.training_time.step_time import COMPUTE_MFU, reached_mfu, step_time
from e2_tools.commands import plan_memory
from e2_tools.planning.memory import fullest, in_flight_chunks, stages
from e2_tools.planning.models import MODELS, find_model
from e2_tools.planning.run import Run, check
from e2_tools.planning.suggest import suggestions
from tests.helpers import ROOT
from tests.helpers.commands import refused, run_command

BASE = ["--model", "llama2-7b", "--gpu", "A100-80GB", "--gpus", "16"]
A100 = GPUS["A100-80GB"]


def plans(tmp_path, *options):
    file = tmp_path / "plan.json"
    plan_memory.main([*map(str, options), "--json", str(file)])
    content = json.loads(file.read_text())
    assert content["schema"] == "e2-llm/plan/1"
    assert content["provenance"]["versions"]["megatron-core"]
    return content["plans"]


def test_a_plan_adds_up(tmp_path, capsys):
    options = [*BASE, "--tp", "2", "--pp", "2", "--price-per-gpu-hour", "2", "--mfu", "0.4"]
    (plan,) = plans(tmp_path, *options)
    assert [stage["total"] for stage in plan["stages"]] == [
        sum(stage["bytes"].values()) for stage in plan["stages"]
    ]
    assert plan["fullest_stage"] == 0  # the embedding and the most micro-batches in flight
    assert [stage["micro_batches_in_flight"] for stage in plan["stages"]] == [2, 1]
    # 40 % of 16 x 312 TFLOP/s at 42.86 GFLOP a token, over 30,000 x 16 x 4096 tokens.
    assert plan["tokens_per_second"] == pytest.approx(0.4 * 16 * 312e12 / 42.8637e9, rel=1e-4)
    assert plan["hours"] == pytest.approx(30000 * 65536 / plan["tokens_per_second"] / 3600)
    assert plan["cost"] == pytest.approx(plan["hours"] * 16 * 2)
    text = capsys.readouterr().out
    assert "MFU: 40.0% of 312 TFLOP/s (causal; 43.0% counted full), given" in text
    assert "fits: stage 0" in text


def test_the_last_stage_is_fullest_where_the_loss_outweighs_the_layers(tmp_path):
    options = ["--model", "smollm2-135m", "--gpu", "H100", "--gpus", "2", "--pp", "2"]
    (plan,) = plans(tmp_path, *options, "--recompute", "full")
    assert plan["fullest_stage"] == 1
    assert plan["stages"][1]["fullest_in"] == "loss"


def test_what_does_not_fit_is_said(capsys):
    plan_memory.main([*BASE, "--tp", "2", "--seq-length", "65536"])
    assert "does not fit: stage 0 in the loss, 179.5 of 79.1 GiB" in capsys.readouterr().out


def test_micro_batches_in_flight_are_those_of_1f1b():
    def held(**options):
        layout = Layout(**{"micro_batches": 16} | options)
        return [in_flight_chunks(Run(layout), stage) for stage in range(layout.pipeline)]

    assert held(pipeline=4) == [4, 3, 2, 1]
    assert held(pipeline=4, micro_batches=2) == [2, 2, 2, 1]
    # Interleaved: p v + p - 1 chunks on the first stage, as in Megatron's memory penalty.
    assert held(pipeline=4, virtual=2) == [11, 9, 7, 5]


def test_recompute_and_sharding_take_memory_away():
    model = MODELS["llama2-7b"].padded(2)
    layout = Layout(tensor=2, data=8, sequence_parallel=True, micro_batches=2)

    def total(**options):
        run = Run(**{"layout": layout} | options)
        return fullest(stages(model, run)).total

    usual = total()
    assert total(layout=replace(layout, recompute="full")) < usual
    assert total(sharding="none") > usual
    assert total(precision_aware=True, states="bf16") < total(precision_aware=True) < usual
    assert total(flash=False) > usual
    assert total(flash=False, layout=replace(layout, recompute="selective")) < total(flash=False)
    assert total(layout=replace(layout, sequence_parallel=False)) > usual


def test_time_goes_where_the_layout_loses_it():
    shape = MODELS["llama2-7b"].sizes
    alone = step_time(shape, Layout(micro_batches=16), A100)
    assert alone.total == alone.compute
    piped = step_time(shape, Layout(pipeline=4, micro_batches=16), A100)
    assert piped.bubble == pytest.approx(piped.compute * 3 / 16)
    full = step_time(shape, Layout(micro_batches=16, recompute="full"), A100)
    # All but the output layer is done a fourth time beside three.
    share = 1 - 6 * shape.hidden * shape.vocab / shape.flops(4096)
    assert full.recompute == pytest.approx(full.compute * share / 3)
    inside = step_time(shape, Layout(tensor=8, micro_batches=16), A100)
    outside = step_time(shape, Layout(tensor=16, micro_batches=16), A100)
    assert outside.tensor > inside.tensor > 0
    layout = Layout(tensor=2, data=8, sequence_parallel=True, micro_batches=2)
    reached = reached_mfu(shape, layout, A100)
    assert 0.3 < reached < COMPUTE_MFU


def test_suggestions_fit_and_come_fastest_first():
    model = MODELS["llama2-13b"]
    found = suggestions(model, Run(), A100, 16, 16, 30000)
    assert len(found) > 5
    assert all(plan.fits and plan.run.layout.world == 16 for plan in found)
    for plan in found:
        check(plan.run, plan.model)
    times = [plan.step.total for plan in found]
    assert all(later > 0.985 * earlier for earlier, later in zip(times, times[1:], strict=False))
    assert any(plan.run.layout.pipeline > 1 for plan in found)
    # Nothing is recomputed that need not be: without it each would not fit.
    tight = suggestions(model, Run(Layout(window=16384)), A100, 16, 16, 30000)
    recomputed = [plan for plan in tight if plan.run.layout.recompute == "full"]
    assert recomputed
    for plan in recomputed:
        kept = replace(plan.run, layout=replace(plan.run.layout, recompute="none"))
        assert fullest(stages(plan.model, kept)).total > A100.memory


RECIPES = {  # name -> model of the planner; what the pages say they fit
    "llama2_7b": "llama2-7b",
    "llama2_13b": "llama2-13b",
    "llama2_70b": "llama2-70b",
    "smollm2_135m": "smollm2-135m",
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_defaults_fit_a100s(tmp_path, name):
    run = run_command(f"examples/{name}/train.sh", "--dry-run")
    assert {name: find_model(model).name for name, model in RECIPES.items()} == RECIPES
    layout, command = run.stdout.splitlines()[0], shlex.split(run.stdout.splitlines()[-1])
    world, tp, pp = re.search(r"(\d+) ranks = TP (\d+) x PP (\d+)", layout).groups()
    flags = dict(zip(command, command[1:], strict=False))
    options = ["--model", RECIPES[name], "--gpu", "A100-80GB", "--gpus", world]
    options += ["--tp", tp, "--pp", pp, "--seq-length", flags["--seq-length"]]
    options += ["--recompute", flags.get("--recompute-granularity", "none")]
    options += ["--micro-batch-size", flags["--micro-batch-size"]]
    assert ("--sequence-parallel" in command) == (int(tp) > 1)
    assert "--use-distributed-optimizer" in command
    assert "--bf16" in command
    (plan,) = plans(tmp_path, *options, "--global-batch-size", flags["--global-batch-size"])
    assert plan["fits"], plan


@pytest.mark.parametrize("name", RECIPES)
def test_named_models_are_those_of_the_recipes_config(tmp_path, name):
    from transformers import LlamaConfig

    from tests.end_to_end.test_recipes import SHAPES

    config = LlamaConfig(**{"max_position_embeddings": 4096} | SHAPES[name])
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(tmp_path)
    found = find_model(str(tmp_path))
    assert replace(found, name=RECIPES[name]) == MODELS[RECIPES[name]]


def test_the_page_says_what_the_planner_says(tmp_path):
    """Every row of the recipes' table in docs/scaling.md that holds its command."""
    page = (ROOT / "docs" / "scaling.md").read_text()
    rows = re.findall(r"\| ([\d.]+) \| (\d+) % \| ([\d.]+) \| `(.+)` \|", page)
    assert len(rows) == 9
    first = ""
    for gib, mfu, hours, command in rows:
        first = command if command.startswith("--model") else first
        options = first.split("--tp")[0] + command.removeprefix("… ")
        options = command if command.startswith("--model") else options
        (plan,) = plans(tmp_path, "--gpu", "A100-80GB", *options.split())
        total = max(stage["total"] for stage in plan["stages"]) / 2**30
        found = (f"{total:.1f}", f"{plan['mfu']['causal']:.0%}", f"{plan['hours']:.1f}")
        assert found == (gib, f"{mfu}%", hours), command


def test_pictures(tmp_path, capsys):
    for options in (["--suggest"], ["--tp", "2", "--pp", "2"], ["--windows", "4096", "8192"]):
        file = tmp_path / "plan.png"
        plan_memory.main([*BASE, *options, "--plot", str(file)])
        assert file.read_bytes().startswith(b"\x89PNG")
    assert "| 8,192 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "nope"], "--model nope: neither a directory with a config.json nor one of"),
        (["--tp", "3"], "--gpus 16: is no multiple of --tp x --pp x --cp = 3"),
        (["--model", "smollm2-135m", "--tp", "2"], "--tp 2: 9 attention heads cannot be split"),
        (["--pp", "16", "--vpp", "4"], "32 layers are no multiple of their product"),
        (["--vpp", "2"], "--vpp 2: needs --pp above 1"),
        (["--global-batch-size", "24"], "--global-batch-size 24: is no multiple of 16"),
        (["--micro-batch-size", "0"], "--micro-batch-size 0: must be at least 1"),
        (["--mfu", "40"], "--mfu 40.0: is a share of the peak"),
        (["--sequence-parallel"], "--sequence-parallel: needs --tp above 1"),
        (["--sharding", "zero-2", "--tp", "2"], "--sharding zero-2: is planned for data parallel"),
        (["--adam-states", "bf16"], "--adam-states bf16: needs --precision-aware-optimizer"),
        (["--plot", "x.jpg"], "--plot x.jpg: is drawn as PNG"),
        (["--json", "."], "--json .: is a folder; name a file"),
        (["--suggest", "--model", "llama2-70b", "--gpus", "1"], "no layout of llama2-70b fits"),
    ],
)
def test_refusals(capsys, options, words):
    refused(capsys, words, plan_memory.main, [*BASE, *options])


def arguments():
    """Megatron's, of the 7B recipe."""
    return Namespace(
        num_layers=32,
        hidden_size=4096,
        ffn_hidden_size=11008,
        num_attention_heads=32,
        num_query_groups=None,
        untie_embeddings_and_output_weights=True,
        kv_channels=128,
        padded_vocab_size=32000,
        swiglu=True,
        num_experts=None,
        tensor_model_parallel_size=2,
        pipeline_model_parallel_size=1,
        virtual_pipeline_model_parallel_size=None,
        context_parallel_size=1,
        data_parallel_size=8,
        sequence_parallel=True,
        recompute_granularity=None,
        micro_batch_size=1,
        global_batch_size=16,
        seq_length=4096,
        world_size=16,
        train_iters=30000,
        train_samples=None,
        step_batch_size_schedule=None,
        bf16=True,
        fp16=False,
    )


def test_the_start_up_report_plans_the_same_hours(tmp_path, monkeypatch):
    from megatron_patches.start.report import _work

    monkeypatch.setitem(os.environ, "LOCAL_WORLD_SIZE", "8")
    (plan,) = plans(tmp_path, *BASE, "--tp", "2")
    known = known_gpu("NVIDIA A100-SXM4-80GB")
    text = _work(arguments(), known)
    share = f"{plan['mfu']['causal']:.0%} of 312 TFLOP/s"
    assert text.endswith(f", 8.43e+19 FLOPs, about {plan['hours']:.1f} h at {share}")
    assert known_gpu("cpu") is None
    assert _work(arguments(), None).endswith("8.43e+19 FLOPs")  # nothing is invented
