# SPDX-License-Identifier: Apache-2.0
"""plan_memory.py --engine transformers: against PEFT, autograd and torch's own memory tracker."""

import argparse
import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.distributed._tools.mem_tracker import MemTracker

from e2_tools.commands import plan_memory
from e2_tools.planning import transformers_plan
from e2_tools.planning.memory import PARTS
from e2_tools.planning.plots import SHADES
from e2_tools.planning.transformers_step import build, run_step, traced_step
from tests.helpers.commands import refused
from tests.helpers.families import FAMILIES, make_config

BASE = ["--model", "llama2-7b", "--gpu-memory-gib", "23.5", "--engine", "transformers"]
LORA = {"lora": 4, "lora_targets": ["q_proj", "down_proj"]}


def settings(**changes):
    defaults = {
        "lora": None,
        "lora_alpha": 8.0,
        "lora_dropout": 0.0,
        "lora_targets": ["q_proj"],
        "lora_train_whole": [],
        "gradient_checkpointing": False,
        "bf16": True,
        "attention": "sdpa",
        "micro_batch_size": 2,
        "seq_length": 96,
        "model": "model",
        "seed": 1,
    }
    return argparse.Namespace(**defaults | changes)


def real(config, args):
    return build(config, args).to_empty(device="cpu")


QUICK = ("qwen3",)
EACH = [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in FAMILIES]


@pytest.mark.parametrize("family", EACH)
def test_parameters_are_pefts(family):
    """Weights, gradients and Adam's two moments of a LoRA, to the byte."""
    config = make_config(family)
    args = settings(**LORA)
    step = traced_step(config, args, accumulates=True)
    with torch.device("meta"):
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_config(config)
        whole = base.num_parameters()
        model = get_peft_model(base, LoraConfig(r=4, target_modules=LORA["lora_targets"]))
    trained, count = model.get_nb_trainable_parameters()
    assert (step.trained, step.parameters) == (trained, count)
    heads = config.num_attention_heads * getattr(config, "head_dim", 16)
    by_hand = config.hidden_size + heads + config.intermediate_size + config.hidden_size
    assert trained == 4 * config.num_hidden_layers * by_hand
    buffers = sum(b.nbytes for b in model.buffers())
    parts = step.peaks["backward"]
    assert parts["weights"] == 2 * whole + 4 * trained + buffers
    assert parts["gradients"] == 4 * trained
    assert 0 <= parts["optimizer states"] - 8 * trained < 1000  # a count of steps for each tensor


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"bf16": False, "attention": "eager"}, marks=pytest.mark.slow),
        pytest.param({**LORA}, marks=pytest.mark.slow),
        {**LORA, "gradient_checkpointing": True, "lora_train_whole": ["norms"]},
        pytest.param({"gradient_checkpointing": True}, marks=pytest.mark.slow),
    ],
    ids=["bf16", "fp32, eager", "LoRA", "LoRA, checkpoints, norms", "checkpoints"],
)
def test_bytes_are_those_of_a_real_step(changes):
    """On a CPU: what autograd saves in the forward pass, and torch's tracker over the step."""
    config, args = make_config("qwen3"), settings(**changes)
    config.num_hidden_layers = 2
    planned = traced_step(config, args, accumulates=True)
    model = real(config, args)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    known = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    known |= {buffer.untyped_storage()._cdata for buffer in model.buffers()}
    saved = {}

    def save(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            saved[storage._cdata] = storage
        return tensor

    ids = torch.zeros(2, 96, dtype=torch.long)

    def forward():
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            return model(input_ids=ids, labels=ids, shift_labels=ids, use_cache=False).loss

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        loss = forward()
    moving = ("activations", "copies of weights", "logits and loss")
    kept = sum(planned.kept.get(part, 0) for part in moving)
    if not args.gradient_checkpointing:  # whose own hooks keep the layers' inputs
        assert kept == pytest.approx(sum(s.nbytes() for s in saved.values()), rel=0.01)
    if args.lora:  # of which the tracker knows nothing: it wants a gradient of every weight
        assert planned == run_step(real(config, args), args, True)
        return
    del loss
    saved.clear()
    optimizer = torch.optim.AdamW(trained, foreach=True)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    tracker = MemTracker()
    optimizer.step()
    tracker.track_external(model, optimizer)
    with tracker:
        forward().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=True)
        optimizer.step()
    theirs = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    ours = max(sum(parts.values()) for parts in planned.peaks.values())
    assert ours == pytest.approx(theirs, rel=0.02)


@pytest.mark.slow
def test_what_costs_and_what_saves():
    config = make_config("mistral")
    config.num_hidden_layers = 2

    def most(accumulates=False, **changes):
        step = traced_step(config, settings(seq_length=256, **changes), accumulates)
        return max(sum(parts.values()) for parts in step.peaks.values())

    lora = most(**LORA)
    assert most(**LORA, gradient_checkpointing=True) < lora < most()
    assert lora < most(**LORA, attention="eager")
    assert lora < most(**LORA, lora_dropout=0.1)
    assert lora < most(lora=64, lora_targets=LORA["lora_targets"])
    assert most() < most(accumulates=True)


@pytest.mark.slow
def test_the_page_says_what_the_planner_says(capsys):
    from tests.helpers import ROOT

    page = (ROOT / "docs" / "transformers.md").read_text()
    command, output = page.split("python tools/plan_memory.py ")[1].split("```")[0].split("\n\n", 1)
    plan_memory.main(command.replace("\\\n", " ").split())
    assert capsys.readouterr().out.strip() == output.strip()


def test_a_plan_from_the_command_line(tmp_path, capsys):
    config = make_config("qwen2")
    config.architectures = ["Qwen2ForCausalLM"]
    config.save_pretrained(tmp_path / "model")
    options = ["--model", tmp_path / "model", *BASE[2:], "--lora", "--windows", "32", "64"]
    options += ["--json", tmp_path / "plan.json", "--plot", tmp_path / "plan.png"]
    totals = []
    for more in ([], ["--gpus", "2"]):
        plan_memory.main([*map(str, options), *more])
        content = json.loads((tmp_path / "plan.json").read_text())
        assert [plan["seq_length"] for plan in content["plans"]] == [32, 64]
        for plan in content["plans"]:
            (stage,) = plan["stages"]
            assert sum(stage["bytes"].values()) == stage["total"] == max(stage["moments"].values())
            assert plan["fits"]
            assert plan["lora"] == 16
        totals.append(content["plans"][0]["stages"][0]["total"])
    assert totals[1] - totals[0] == 4 * content["plans"][0]["trained"]
    assert "| 64 |" in capsys.readouterr().out
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_every_flag_belongs_to_an_engine_or_to_both():
    """A flag that is new has to be sorted."""
    both = {"model", "gpu", "gpus", "gpu_memory_gib", "engine", "micro_batch_size", "seq_length"}
    both |= {"global_batch_size", "precision", "attention", "overhead_gib", "windows", "json"}
    both |= {"plot", "help"}
    flags = {action.dest for action in plan_memory.build_parser()._actions}
    one = {*transformers_plan.NOT_HERE, *transformers_plan.ONLY_HERE}
    assert flags == both | one
    assert not both & one
    assert tuple(SHADES) == PARTS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tp", "2"], "--tp: says nothing about --engine transformers"),
        (["--recompute", "full"], "--recompute: says nothing about --engine transformers; give"),
        (["--mfu", "0.4"], "as no time is planned"),
        (["--suggest"], "--suggest: says nothing"),
        (["--engine", "megatron", "--lora"], "--lora: says nothing about --engine megatron; add"),
        (["--engine", "megatron"], "--gpu and --gpus are needed"),
        (["--lora", "0"], "--lora 0: must be above 0"),
        (["--lora-alpha", "8"], "--lora-alpha is only for --lora"),
        (["--lora", "--lora-dropout", "1"], "--lora-dropout 1.0"),
        (["--lora", "--lora-targets", "proj"], "--lora-targets proj: no such matrix in llama2-7b"),
        (["--gpus", "0"], "--gpus 0: must be at least 1"),
        (["--gpus", "3"], "--global-batch-size 16: is no multiple of 3"),
        (["--micro-batch-size", "0"], "--micro-batch-size 0: must be at least 1"),
        (["--windows", "0"], "--windows 0: must be at least 1"),
        (["--gpu-memory-gib", "-1"], "--gpu-memory-gib -1: must be above 0"),
        (["--gpu-memory-gib", "nan"], "--gpu-memory-gib nan: must be above 0"),
        (["--overhead-gib", "-1"], "--overhead-gib -1: must not be negative"),
    ],
)
def test_refusals(capsys, options, words):
    refused(capsys, words, plan_memory.main, [*BASE, *options])
