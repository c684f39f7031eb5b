# SPDX-License-Identifier: Apache-2.0
"""The recipes in examples/: what they would run is known, and on a tiny model it runs."""

import json
import re
import shlex
import shutil

import pytest
import torch
from transformers import LlamaConfig

from e2_common.disk.torch_dist_writer import write_release
from e2_common.model_sizes import ModelSizes
from e2_tools.checkpoint.families import family_of_config
from e2_tools.checkpoint.megatron_args import (
    model_flags,
    stored_arguments,
    tokenizer_flags,
)
from e2_tools.checkpoint.source_rope import source_rope
from tests.distributed.corpus import make_corpus, make_tokenizer
from tests.end_to_end.command_lines import refusals
from tests.helpers import ROOT
from tests.helpers.commands import refusal_in, run_command
from tests.helpers.families import make_model

RECIPES = sorted(path.parent.name for path in ROOT.glob("examples/*/slurm.sbatch"))


def recipe(name, script, *options, code=0, **environment):
    place = f"examples/{name}/{script}.sh"
    return run_command(place, *options, timeout=400, code=code, **environment)


@pytest.fixture(scope="module")
def known_flags():
    """script -> flags, of every script that the recipes run."""
    found = {}
    tools = ["convert_hf_to_megatron", "convert_megatron_to_hf", "evaluate_perplexity"]
    for script in ("pretrain_e2.py", *(f"tools/{name}.py" for name in [*tools, "plot_results"])):
        run = run_command(script, "--help", PYTHONWARNINGS="ignore")
        found[script] = set(re.findall(r"--[\w-]+", run.stdout))
    return found


def test_there_are_recipes():
    assert {"llama2_7b", "llama2_13b", "llama2_70b", "smollm2_135m"} <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_every_flag_of_a_recipe_is_known(name, known_flags):
    for script in ("convert", "train", "evaluate"):
        run = recipe(name, script, "--dry-run")
        commands = [line for line in run.stdout.splitlines() if ".py" in line]
        assert commands
        for command in commands:
            words = shlex.split(command)
            (at,) = [i for i, word in enumerate(words) if word in known_flags]
            flags = {word for word in words[at:] if word.startswith("--")}
            assert flags <= known_flags[words[at]], flags - known_flags[words[at]]


# What the recipes' models have in their config.json.
SHAPES = {
    "llama2_7b": {},  # LlamaConfig's defaults
    "llama2_13b": {
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
    },
    "llama2_70b": {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
    "smollm2_135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
        "tie_word_embeddings": True,
        "vocab_size": 49152,
    },
}


def checkpoint_without_weights(folder, shape, tokenizer):
    """A converted checkpoint's arguments, which is all that a command line is checked against."""
    config = LlamaConfig(**{"max_position_embeddings": 4096} | shape).to_dict()
    rope, sizes = source_rope(config, None, folder), ModelSizes.from_config(config, folder)
    flags = model_flags(config, family_of_config(config, folder), sizes, rope, folder)
    flags |= tokenizer_flags(tokenizer)
    args = stored_arguments(flags, sizes, torch.bfloat16, rope)
    write_release(folder, [], sizes.layers, torch.bfloat16, args)


def test_megatron_accepts_every_recipe_in_its_whole_layout(tmp_path):
    data = make_corpus(tmp_path)[1]
    assert set(SHAPES) == set(RECIPES)
    commands = {}
    for name, shape in SHAPES.items():
        base = tmp_path / name
        base.mkdir()
        checkpoint_without_weights(base, shape, tmp_path / "tokenizer")
        places = ("--base", base, "--out", tmp_path / f"{name}-e2", "--data", f"7 {data} 3 {data}")
        for case, options in {name: [], f"{name}, wrong": ["--", "--hidden-size", "577"]}.items():
            run = recipe(name, "train", "--dry-run", *places, *options)
            world = re.search(r"(\d+) ranks", run.stdout)[1]
            words = shlex.split(run.stdout.splitlines()[-1])
            commands[case] = [world, *words[words.index("pretrain_e2.py") + 1 :]]
        commands[f"{name}, other nodes"] = ["6", *commands[name][1:]]
    refused = refusals(commands)
    assert not refused.keys() & set(SHAPES), refused
    assert len(refused) == 2 * len(SHAPES)


@pytest.mark.parametrize("name", RECIPES)
def test_the_layout_fills_the_nodes(name):
    line = recipe(name, "train", "--dry-run").stdout.splitlines()[0]
    world, tp, pp, dp = map(
        int, re.search(r"(\d+) ranks = TP (\d+) x PP (\d+) x DP (\d+)", line).groups()
    )
    assert world == tp * pp * dp
    batch = (ROOT / f"examples/{name}/slurm.sbatch").read_text()
    nodes = int(re.search(r"--nodes=(\d+)", batch)[1])
    assert world == 8 * nodes


def test_options_and_environment_reach_the_command():
    run = recipe("llama2_7b", "train", "--dry-run", "--tp", 4, "--", "--lr", "2e-5", NODES="4")
    words = shlex.split(run.stdout.splitlines()[-1])
    assert words[words.index("--nnodes") + 1] == "4"
    assert words[words.index("--tensor-model-parallel-size") + 1] == "4"
    assert words[-2:] == ["--lr", "2e-5"]  # later ones win


@pytest.mark.parametrize(
    ("script", "options", "word"),
    [
        ("train", ["--tp", "3"], "--tp 3"),
        ("train", ["--global-batch", "3"], "--global-batch 3"),
        ("train", ["--nonsense", "3"], "--nonsense"),
        ("train", ["--tp"], "--tp needs a value"),
        ("train", [], "MASTER_ADDR"),
        ("convert", ["--base"], "--base needs a value"),
        ("evaluate", ["--what", "3"], "--what"),
    ],
)
def test_refusals(script, options, word):
    run = recipe("llama2_7b", script, *options, code=2, MASTER_ADDR="")
    refusal, _, _ = run.stderr.partition("usage: ")  # which follows an option that it does not know
    refusal_in(run.returncode, run.stdout, refusal, word, alone=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_recipe_runs_on_a_tiny_model(tmp_path):
    make_corpus(tmp_path)
    model = tmp_path / "model"
    make_model("smollm2").save_pretrained(model)
    for file in make_tokenizer(tmp_path).iterdir():
        shutil.copy(file, model)
    words = " ".join(f"w{index * 7 % 254}" for index in range(300))
    (tmp_path / "held_out.jsonl").write_text(json.dumps({"text": words}) + "\n")
    names = {"HF_MODEL": model, "BASE": tmp_path / "base", "OUT": tmp_path / "out"}
    names |= {"DATA": tmp_path / "corpus", "HELD_OUT": tmp_path / "held_out.jsonl"}
    names |= {"GPUS_PER_NODE": 2, "TP": 2, "SEQ_LENGTH": 64, "TRAIN_ITERS": 4, "GLOBAL_BATCH": 4}
    names |= {"WINDOWS": "256 512", "EXTRA_ARGS": "--split 60,20,20"}
    for script in ("convert", "train", "evaluate"):
        run = recipe("smollm2_135m", script, **names)
    assert "| smollm2_135m, E2-LLM |" in run.stdout
    assert (tmp_path / "out" / "perplexity.png").exists()
