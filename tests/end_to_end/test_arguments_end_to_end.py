# SPDX-License-Identifier: Apache-2.0
"""What a run takes over of a checkpoint, and what it says of it before it starts."""

import pytest
import torch

from e2_common.disk.torch_dist_reader import TorchDistReader
from tests.distributed.corpus import make_corpus
from tests.distributed.world import LOADING_ALONE, TINY_MODEL, TINY_TRAINING, run_world
from tests.end_to_end.command_lines import refusals

SGD = ["--optimizer", "sgd", "--lr", "0.1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("arguments")


@pytest.fixture(scope="module")
def data(folder):
    return [*make_corpus(folder), *LOADING_ALONE]


@pytest.fixture(scope="module")
def command(data):
    return [*TINY_MODEL, *TINY_TRAINING, *data]


@pytest.fixture(scope="module")
def runs(command, data, folder):
    """What the runs logged; each leaves its checkpoint in a folder of its name."""

    def saving(name, *flags, after=2):
        saved = ["--save", str(folder / name), "--save-interval", str(after)]
        return name, [*command, *flags, *saved, "--train-iters", str(after)]

    def taking_over(name, base):
        start = ["--use-checkpoint-args", "--pretrained-checkpoint", str(folder / base)]
        saved = ["--save", str(folder / name), "--save-interval", "1", "--e2-override"]
        training = [*TINY_TRAINING, "--seq-length", "64", "--train-iters", "1", "--finetune"]
        return name, [*data, *training, *start, *saved]

    def resumed(name, *flags):
        return f"{name} resumed", [
            *command,
            *flags,
            "--load",
            str(folder / name),
            "--train-iters",
            "4",
        ]

    experts = ["--num-experts", "4", "--moe-layer-freq", "2", "--e2-override"]
    runs = [
        saving("nope", "--no-rope-freq", "2", "--e2-override"),
        taking_over("nope taken over", "nope"),
        saving("experts", *experts),
        saving("plain"),
        saving("sgd", *SGD),
        resumed("sgd", *SGD),
        ("sgd whole", [*command, *SGD, "--train-iters", "4"]),
        saving("no optimizer", "--no-save-optim"),
        resumed("no optimizer", "--no-load-optim"),
    ]
    return run_world(1, runs, folder / "world")


def stored(folder, name):
    (iteration,) = (folder / name).glob("iter_*")
    return TorchDistReader(iteration).common()["args"]


def test_layers_without_rope_stay_so(runs, folder):
    assert stored(folder, "nope").no_rope_freq == 2
    assert stored(folder, "nope taken over").no_rope_freq == 2


def test_experts_are_in_the_layers_that_were_asked_for(runs, folder):
    """As many parameters as Megatron builds with Transformer Engine of the same command."""
    (iteration,) = (folder / "experts").glob("iter_*")
    tensors = TorchDistReader(iteration).tensors
    weights = [tensor for name, tensor in tensors.items() if not name.startswith("optimizer.")]
    assert sum(torch.Size(tensor.size).numel() for tensor in weights) == 390208


def test_sgd_goes_on_as_if_it_had_never_ended(runs):
    whole, resumed = runs["sgd whole"], runs["sgd resumed"]
    assert resumed["losses"] == whole["losses"][2:]
    assert resumed["grad_norms"] == whole["grad_norms"][2:]
    assert len(runs["no optimizer resumed"]["losses"]) == 2


def test_what_cannot_be_taken_over_is_said_before_the_start(runs, command, data, folder, subtests):
    def load(name, *flags):
        return [*command, "--load", str(folder / name), "--train-iters", "4", *flags]

    def taking_over(name, *flags):
        start = ["--use-checkpoint-args", "--pretrained-checkpoint", str(folder / name)]
        return [*data, *TINY_TRAINING, "--seq-length", "64", *start, *flags]

    another, fresh = "holds the state of another optimizer", "--no-load-optim goes on with a fresh"
    cases = {
        "no state": (load("no optimizer"), ["(it was saved with --no-save-optim)", fresh]),
        "another optimizer": (load("sgd"), [another, "--optimizer is sgd there and adam", fresh]),
        "another the other way": (load("plain", *SGD), [another, "--optimizer is adam there"]),
        "half now": (load("plain", "--bf16"), [another, "--bf16 or --fp16 is False there"]),
        "distributed now": (load("plain", "--use-distributed-optimizer"), [another, fresh]),
        "NoPE forgotten": (load("nope", "--finetune"), ["--no-rope-freq is 2 there and None here"]),
        "NoPE added": (load("plain", "--no-rope-freq", "2"), ["--no-rope-freq is None there"]),
        "L2 norm added": (load("plain", "--qk-l2-norm"), ["--qk-l2-norm is False there"]),
        "other experts": (
            load("experts", "--finetune", "--num-experts", "4", "--moe-layer-freq", "[0,0,1,1]"),
            ["--moe-layer-freq is 2 there and [0, 0, 1, 1] here"],
        ),
        "tokens ahead": (
            [*command, "--mtp-num-layers", "1", "--e2-frequencies", "yarn"],
            ["--mtp-num-layers: its layers do not get YaRN"],
        ),
        "overruled": (
            taking_over("plain", "--rotary-base", "500000"),
            ["--rotary-base 500000: --use-checkpoint-args takes the checkpoint's 10000"],
        ),
        "of two minds": (
            taking_over("nope", "--no-rope-freq", "4", "--finetune"),
            ["--no-rope-freq is 2 there and 4 here (drop the flags)"],
        ),
    }
    saved = ["--save", str(folder / "new"), "--save-interval", "1"]
    for name, flags, word in [
        ("NoPE and a norm", ["--no-rope-freq", "2", "--qk-layernorm"], "no_rope_freq, qk_layern"),
        ("experts", ["--num-experts", "4"], "num_experts=4"),
        (
            "a kind between families",
            ["--qk-layernorm", "--add-qkv-bias"],
            "add_qkv_bias, qk_layern",
        ),
        ("a part of the head", ["--rotary-percent", "0.5"], "rotary_percent=0.5"),
    ]:
        words = ["cannot be exported to Hugging Face", word, "--e2-override"]
        cases[f"no export: {name}"] = ([*command, *flags, *saved], words)
    accepted = {
        "not saved": [*command, "--rotary-percent", "0.5"],
        "on purpose": [*command, "--rotary-percent", "0.5", *saved, "--e2-override"],
        "a fresh optimizer": load("sgd", "--no-load-optim"),
        "from its weights": load("sgd", "--finetune"),
        "the same": taking_over("plain", "--rotary-base", "10000"),
    }
    lines = {name: argv for name, (argv, _) in cases.items()} | accepted
    told = refusals({name: ["1", *argv] for name, argv in lines.items()})
    assert not (folder / "new").exists()
    for name in accepted:
        with subtests.test(name):
            assert name not in told
    for name, (_, words) in cases.items():
        with subtests.test(name):
            assert all(word in told[name] for word in words), told[name]
            assert "\n" not in told[name]
