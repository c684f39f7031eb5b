# SPDX-License-Identifier: Apache-2.0
"""What is light: --help of every command, ``e2 --help``, importing the method and the patches."""

import json

import pytest

from e2_tools import cli
from tests.helpers import ROOT
from tests.helpers.commands import call, run_command

HEAVY = {"torch", "transformers", "jieba", "numpy", "matplotlib"}
WITH_NUMPY = {"inspect_dataset", "merge_datasets", "preprocess_data"}  # they read arrays
COMMANDS = sorted(path.stem for path in (ROOT / "e2_tools" / "commands").glob("[!_]*.py"))
E2 = "from e2_tools.cli import main; main()"


def imported(*words):
    """What a process imports, and what it says."""
    run = run_command("-X", "importtime", *words)
    return {line.rsplit("|", 1)[-1].strip() for line in run.stderr.splitlines()}, run.stdout


@pytest.mark.parametrize("command", [*COMMANDS, "evaluate_longbench predict"])
def test_help_needs_no_heavy_import(command):
    name, *subcommand = command.split()
    modules, shown = imported(ROOT / "tools" / f"{name}.py", *subcommand, "--help")
    assert shown.startswith(f"usage: {name}.py")
    assert modules & HEAVY <= ({"numpy"} if name in WITH_NUMPY else set())


def test_help_of_training_on_transformers_is_light():
    modules, shown = imported(ROOT / "train_e2_hf.py", "--help")
    assert "--lora-train-whole" in shown
    assert not modules & HEAVY


def test_e2_lists_every_command_and_loads_none():
    modules, shown = imported("-c", E2, "--help")
    verbs = [line.split()[0] for line in shown.splitlines() if line.startswith("  ")]
    assert sorted(verbs) == sorted(
        ["pretrain", "train-hf", *(name.replace("_", "-") for name in COMMANDS)]
    )
    assert not modules & HEAVY


@pytest.mark.parametrize("verb", sorted(set(cli.VERBS) - {"pretrain"}))
def test_help_of_every_verb(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        call(cli.main, verb, "--help")
    assert stop.value.code in (0, None)
    assert capsys.readouterr().out.startswith(f"usage: e2 {verb}")


def test_help_of_the_training():
    """In a process of its own: it makes torch compute on a CPU what Megatron asks of a GPU."""
    shown = run_command("-c", E2, "pretrain", "--help", PYTHONWARNINGS="ignore").stdout
    assert "--e2-max-scale" in shown


def test_the_method_is_light():
    code = (
        "import json, sys, time\n"
        "begun = time.process_time()\n"
        "import e2_llm\n"
        "print(json.dumps([time.process_time() - begun, list(sys.modules)]))"
    )
    seconds, modules = json.loads(run_command("-c", code).stdout)
    assert not {"megatron", "transformers", "torch.distributed"} & set(modules)
    assert seconds < 0.5


def test_importing_the_patches_changes_nothing():
    # Only install() may: on a machine with CUDA nothing of this is active.
    code = (
        "import torch, json; before = dict(vars(torch.cuda)); compile = torch.compile\n"
        "import megatron_patches, megatron_patches.runtime.cpu, megatron_patches.runtime.fixes\n"
        "changed = [k for k, value in before.items() if vars(torch.cuda)[k] is not value]\n"
        "print(json.dumps([changed, torch.compile is compile]))"
    )
    assert json.loads(run_command("-c", code).stdout) == [[], True]


def test_the_package_of_patches_imports_nothing_heavy():
    code = "import sys, megatron_patches; print('torch' in sys.modules, 'megatron' in sys.modules)"
    assert run_command("-c", code).stdout.strip() == "False False"
