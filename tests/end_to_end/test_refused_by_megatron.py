# SPDX-License-Identifier: Apache-2.0
"""What Megatron breaks on until the first iteration is done: one line that names the flag."""

import json

import pytest

from megatron_patches.start.refusal import PHASES
from tests.distributed.corpus import make_corpus
from tests.distributed.world import LOADING_ALONE, TINY_MODEL, TINY_TRAINING
from tests.end_to_end.command_lines import forked_runs

pytestmark = pytest.mark.timeout(400)

# Words that are added to a good command line, and words that the line has to contain.
MISTAKES = {
    "window": ("--window-size 16,0", ["--window-size"]),
    "full validation": ("--full-validation", ["--full-validation", "--eval-iters"]),
    "full validation, windows": (
        "--full-validation --eval-iters 1 --e2-validation-windows 64",
        ["--full-validation"],
    ),
    "latent attention": ("--multi-latent-attention", ["--multi-latent-attention"]),
    "loader of one's own": ("--dataloader-type external", ["--dataloader-type external"]),
    "no interval": ("--eval-interval 0 --eval-iters 1", ["--eval-interval 0"]),
    "negative seed": ("--seed -1", ["--seed -1", "positive"]),
    "no such module": ("--spec foo bar", ["--spec foo bar", "no such module"]),
    "no such name": ("--spec megatron.core.models.gpt nothing", ["the model", "--spec", "nothing"]),
    "no iterations": ("--train-iters -1", ["learning rate", "--train-iters -1"]),
    "optimizer instances": (
        "--use-distributed-optimizer --num-distributed-optimizer-instances 2",
        ["einops", "--num-distributed-optimizer-instances 2"],
    ),
    "experts of a dense checkpoint": (
        "--load CHECKPOINT --finetune --num-experts 2",
        ["--num-experts"],
    ),
    "documents apart twice": (
        "--dataloader-inter-document-masking --reset-attention-mask",
        ["--dataloader-inter-document-masking", "--reset-attention-mask"],
    ),
    "a mask in the middle": (
        "--reset-attention-mask --pipeline-model-parallel-size 4",
        ["--reset-attention-mask", "--dataloader-inter-document-masking"],
    ),
    "an empty split": ("--per-split-data-args-path SPLIT", ["--per-split-data-args-path"]),
}
NEIGHBOURS = {
    "tokenizer": ("--tokenizer-type NullTokenizer", ["the tokenizer", "--vocab-size"]),
    "learnable softmax": ("--softmax-type learnable", ["--softmax-type"]),
    "many sets": ("--multiple-validation-sets --eval-iters 1", ["--multiple-validation-sets"]),
    "named sets": ("--validation-set-names a --eval-iters 1", ["--validation-set-names"]),
    "no log": ("--log-interval 0", ["--log-interval 0"]),
    "workers": ("--num-workers -1", ["the data", "--num-workers -1"]),
    "optimizer": ("--optimizer muon", ["the optimizer", "--optimizer muon"]),
    "schedule": ("--lr-decay-style WSD", ["--lr-decay-style WSD"]),
    "warm-up": ("--lr-warmup-iters 9 --lr-decay-iters 5", ["--lr-warmup-iters 9"]),
    "split": ("--split a,b", ["the data", "--split a,b"]),
    "odd heads": ("--kv-channels 7", ["--kv-channels 7"]),
    "groups": ("--num-query-groups 3", ["--num-query-groups 3", "--num-attention-heads 4"]),
    "feed-forward": ("--ffn-hidden-size -1", ["--ffn-hidden-size -1"]),
    "layers": ("--num-layers 0", ["--num-layers 0"]),
    "graphs": ("--cuda-graph-impl local", ["--cuda-graph-impl local"]),
    "recompute": (
        "--recompute-granularity selective --recompute-modules foo",
        ["--recompute-modules foo"],
    ),
    "offload": ("--cpu-offloading-num-layers 2", ["--cpu-offloading-num-layers 2"]),
    "padding": ("--make-vocab-size-divisible-by 0", ["--make-vocab-size-divisible-by 0"]),
    "spread": ("--init-method-std -1", ["--init-method-std -1"]),
    "attention dropout": ("--attention-dropout 2", ["--attention-dropout 2"]),
    "collection": ("--manual-gc --manual-gc-interval -1", ["--manual-gc-interval -1"]),
    "backend": ("--distributed-backend nccl", ["--distributed-backend nccl"]),
    "adam": ("--adam-beta1 2", ["the optimizer", "--adam-beta1 2"]),
    "no writer": (
        "--wandb-project x --wandb-exp-name y",
        ["--wandb-project x", "--wandb-save-dir"],
    ),
    "no curves": (
        "--wandb-project x --wandb-exp-name y --wandb-save-dir CHECKPOINT/w",
        ["--wandb-project x", "--tensorboard-dir"],
    ),
    "documents and later tokens": (
        "--dataloader-inter-document-masking --mtp-num-layers 1",
        ["--dataloader-inter-document-masking", "--mtp-num-layers"],
    ),
    "experts per token": ("--num-experts 2 --moe-router-topk 5", ["--moe-router-topk 5"]),
    "bf16 of an fp32 checkpoint": ("--load CHECKPOINT --bf16", ["the checkpoint", "--bf16"]),
    "another optimizer": ("--load CHECKPOINT --optimizer sgd", ["the checkpoint", "--optimizer"]),
}
RANKS = {"optimizer instances": 2, "a mask in the middle": 4}

# Faults of ours, as if each stood in our code: what is raised, and what Megatron then breaks on.
FAULTS = {
    "arguments": ("megatron_patches.start.arguments", "_check_support", "raise ValueError('ours')"),
    "layers": ("megatron_patches.model.build", "layer_spec", "raise TypeError('ours')"),
    "rotary": ("megatron_patches.model.build", "install_rotary", "raise AssertionError('ours')"),
    "no layers": ("megatron_patches.model.build", "layer_spec", "return None"),
    "data": ("megatron_patches.data.datasets", "dataset_config", "raise KeyError('ours')"),
    "no data": ("megatron_patches.data.datasets", "_build", "return [iter(()), None, None]"),
    "draws": ("megatron_patches.training.step", "draws_of", "raise IndexError('ours')"),
    "angles": (
        "megatron_patches.model.rotary",
        "E2RotaryEmbedding.get_emb",
        "return original(*given, **named)[:3]",
    ),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder, and a command line that works."""
    folder = tmp_path_factory.mktemp("refused")
    data = make_corpus(folder)
    (folder / "split.json").write_text(
        json.dumps({"train": [data[1]], "valid": [data[1]], "test": []})
    )
    return folder, [*TINY_MODEL, *TINY_TRAINING, *LOADING_ALONE, *data, "--train-iters", "2"]


@pytest.fixture(scope="module")
def outcome(good):
    """What became of a good run, of the mistakes and of the faults, one process after another."""
    folder, argv = good
    save = ["--save", str(folder / "checkpoint"), "--save-interval", "2"]
    runs = {"none": {"argv": [*argv, *save]}, **runs_of(good, MISTAKES)}
    runs |= {name: {"argv": argv, "broken": fault} for name, fault in FAULTS.items()}
    return forked_runs(runs, folder / "runs")


def with_mistake(good, words):
    folder, argv = good
    if "SPLIT" in words:
        argv = argv[: argv.index("--data-path")] + argv[argv.index("--split") + 2 :]
    words = words.replace("CHECKPOINT", str(folder / "checkpoint"))
    return [*argv, *words.replace("SPLIT", str(folder / "split.json")).split()]


def runs_of(good, cases):
    return {
        name: {"argv": with_mistake(good, words), "ranks": RANKS.get(name, 1)}
        for name, (words, _) in cases.items()
    }


def check(outcome, cases, subtests):
    for name, (_, words) in cases.items():
        with subtests.test(name):
            codes = [code for code, _ in outcome[name]]
            text = "".join(text for _, text in outcome[name])
            assert set(codes) <= {2, -15}, text[-3000:]
            assert 2 in codes
            assert "Traceback" not in text
            lines = [line for line in text.splitlines() if line.startswith("error: ")]
            assert len(lines) == 1
            assert len(lines[0]) < 500
            for word in words:
                assert word in lines[0]


def test_every_mistake_is_one_line(outcome, subtests):
    check(outcome, MISTAKES, subtests)


def test_a_fault_of_ours_stays_a_traceback(outcome, subtests):
    [(code, text)] = outcome["none"]
    assert (code, "Traceback" in text) == (0, False)
    for name in FAULTS:
        with subtests.test(name):
            [(code, text)] = outcome[name]
            assert code == 1, text[-3000:]
            assert "Traceback" in text
            assert not [line for line in text.splitlines() if line.startswith("error: ")]


@pytest.mark.slow
def test_and_every_neighbour(good, outcome, subtests):
    runs = runs_of(good, NEIGHBOURS)
    check(forked_runs(runs, good[0] / "neighbours"), NEIGHBOURS, subtests)


def test_the_phases_are_functions_of_megatron():
    from megatron.training import argument_utils, arguments, checkpointing, global_vars, training
    from megatron.training.utils import common_utils

    places = (argument_utils, arguments, checkpointing, global_vars, training, common_utils)
    assert [name for name in PHASES if not any(hasattr(place, name) for place in places)] == []
