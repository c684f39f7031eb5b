# SPDX-License-Identifier: Apache-2.0
"""What a user gets wrong on the command line of pretrain_e2.py: one line, exit code 2."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from e2_common.disk.torch_dist_reader import TorchDistReader
from tests.distributed.corpus import make_corpus, write_dataset
from tests.distributed.world import TINY_MODEL, TINY_TRAINING, run_world
from tests.end_to_end.command_lines import refusals
from tests.helpers.commands import refused_by, run_command
from tests.helpers.quick_python import quick_python


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bad_input")


@pytest.fixture(scope="module")
def good(folder):
    """A command line that works, and what runs of it leave behind: checkpoints and a log."""
    command = [*TINY_MODEL, *TINY_TRAINING, *make_corpus(folder), "--train-iters", "1"]
    words = [[(7 * index + shift) % 250 + 2 for index in range(300)] for shift in range(20)]
    write_dataset(folder / "second", words)
    blend = ["--data-path", "3", str(folder / "corpus"), "1", str(folder / "second")]
    runs = {
        "good": [*command, "--save", str(folder / "checkpoint"), "--save-interval", "1"],
        "blended": [*command, *blend, "--save", str(folder / "blended"), "--save-interval", "1"],
        "resumed": [*command, "--load", str(folder / "blended")],
    }
    run_world(1, list(runs.items()), folder / "world")
    return command


NO_TEXT = ["--tokenizer-type", "NullTokenizer", "--vocab-size", "256"]


def ids_file(folder, text):
    """A file of ids of tokens, for --e2-sentence-ends."""
    path = folder / f"ids of {len(text)}"
    path.write_text(text)
    return str(path)


def mistakes(folder):
    """What to change in the good command line, and words that the refusal has to contain."""
    empty = folder / "empty"
    for suffix in (".bin", ".idx"):
        Path(f"{empty}{suffix}").touch()
    for suffix in (".bin", ".idx"):
        (folder / f"other{suffix}").write_bytes(b"something else")
    for name in ("truncated", "swapped", "half masked"):
        for suffix in (".bin", ".idx"):
            shutil.copyfile(folder / f"corpus{suffix}", folder / f"{name}{suffix}")
    os.truncate(folder / "truncated.idx", os.path.getsize(folder / "truncated.idx") - 8)
    write_dataset(folder / "shorter", [[2, 3, 4, 0]])
    shutil.copyfile(folder / "shorter.idx", folder / "swapped.idx")
    write_dataset(folder / "half masked_loss_mask", [[1, 1, 0, 1]])
    (folder / "half masked_loss_mask.bin").unlink()
    write_dataset(folder / "foreign", [[2, 3, 40000, 0]])
    write_dataset(folder / "negative", [[2, 3, -7, 0]], np.int32)
    write_dataset(folder / "real", [[2, 3, 4, 0]], np.float32)
    damaged = folder / "damaged"
    (damaged / "iter_0000001").mkdir(parents=True)
    (damaged / "latest_checkpointed_iteration.txt").write_text("1")
    start = ["--load", str(folder / "checkpoint"), "--finetune"]
    return {
        "missing data": (["--data-path", str(folder / "nothing")], ["--data-path", "nothing.idx"]),
        "empty data": (["--data-path", str(empty)], ["--data-path", "empty.idx", "is empty"]),
        "other data": (
            ["--data-path", str(folder / "other")],
            ["--data-path", "other.idx", "not an index"],
        ),
        "truncated index": (
            ["--data-path", str(folder / "truncated")],
            ["truncated.idx", "damaged"],
        ),
        "index of another dataset": (
            ["--data-path", "1", str(folder / "corpus"), "1", str(folder / "swapped")],
            ["swapped.bin", "not a pair"],
        ),
        "data of another tokenizer": (
            ["--data-path", str(folder / "foreign")],
            ["foreign.bin", "the id 40000", "--tokenizer-model"],
        ),
        "save in a file": (
            ["--save", str(folder / "corpus.bin")],
            ["--save", "corpus.bin is not a folder"],
        ),
        "save below a file": (
            ["--save", str(folder / "corpus.bin" / "run")],
            ["--save", "corpus.bin is not a folder"],
        ),
        "curves in a file": (
            ["--tensorboard-dir", str(folder / "corpus.bin")],
            ["--tensorboard-dir", "corpus.bin is not a folder"],
        ),
        "negative ids": (
            ["--data-path", str(folder / "negative")],
            ["negative.bin", "the id -7", "preprocess_data.py"],
        ),
        "numbers that are no ids": (
            ["--data-path", str(folder / "real")],
            ["real.idx", "float32, and ids are integers"],
        ),
        "half a loss mask": (
            ["--data-path", str(folder / "half masked")],
            ["half masked_loss_mask.bin is missing", "--ignore-loss-masks"],
        ),
        "unknown tokenizer type": (["--tokenizer-type", "Foo"], ["--tokenizer-type", "'Foo'"]),
        "unknown flag": (["--e2-max-scales", "3"], ["--e2-max-scales"]),
        "context parallel": (
            ["--context-parallel-size", "2"],
            ["--context-parallel-size 2", "Transformer Engine"],
        ),
        "window above every scale": (
            ["--seq-length", "4096", "--e2-max-scale", "2"],
            ["--seq-length 4096", "--e2-max-scale"],
        ),
        "window above max positions": (
            ["--seq-length", "128"],
            ["--seq-length 128", "--max-position-embeddings 64", "--e2-base-window 64"],
        ),
        "no tokenizer": (
            ["--tokenizer-model", str(folder / "no-tokenizer")],
            ["--tokenizer-model", "no-tokenizer"],
        ),
        "no checkpoint": (["--load", str(folder)], ["--load", "latest_checkpointed_iteration"]),
        "damaged checkpoint": (["--load", str(damaged)], ["--load", "damaged"]),
        "another model": (
            [*start, "--num-layers", "2"],
            ["checkpoint", "--num-layers is 4 there and 2 here"],
        ),
        "another rope base": ([*start, "--rotary-base", "500000"], ["--rotary-base is 10000"]),
        "another rope scaling": (
            [*start, "--use-rope-scaling"],
            ["--use-rope-scaling is False there and True here"],
        ),
        "no base": (
            ["--e2-frequencies", "abf"],
            ["--e2-theta is missing: the frequencies abf need it"],
        ),
        "no factor lists": (
            ["--e2-frequencies", "longrope", "--e2-longrope-factors", str(folder / "nothing")],
            ["--e2-longrope-factors", "nothing: no such file"],
        ),
        "resumed with another scale": (
            ["--load", str(folder / "checkpoint"), "--e2-max-scale", "8"],
            ["--e2-max-scale 20 there, 8 here", "--e2-override"],
        ),
        "resumed with another seed": (
            ["--load", str(folder / "checkpoint"), "--seed", "5"],
            ["--seed 1234 there, 5 here"],
        ),
        "learned positions": (
            ["--position-embedding-type", "learned_absolute"],
            ["--position-embedding-type"],
        ),
        "a kernel of Triton": (
            ["--kernel-norm", "liger"],
            ["--kernel-norm liger:", "Here: auto, plain"],
        ),
        "a kernel of a GPU": (
            ["--kernel-attention", "cudnn"],
            ["--kernel-attention cudnn: needs a CUDA device. Here: auto, blocks, flash, math"],
        ),
        "a kernel of other layers": (
            ["--kernel-attention", "te"],
            ["--kernel-attention te: ", "Here: auto, blocks, flash, math"],
        ),
        "turns without loss masks": (
            ["--e2-placement", "turns"],
            ["--e2-placement turns", "no training dataset", "--loss-mask-key"],
        ),
        "turns, their masks ignored": (
            ["--e2-placement", "skips:0.5,turns:0.5", "--ignore-loss-masks"],
            ["--e2-placement skips:0.5,turns:0.5", "drop --ignore-loss-masks"],
        ),
        "no sentence ends": (
            ["--e2-placement", "sentences", *NO_TEXT],
            ["--e2-placement sentences", "no token", "--e2-sentence-ends FILE"],
        ),
        "sentence ends of another tokenizer": (
            ["--e2-placement", "sentences", "--e2-sentence-ends", ids_file(folder, "7 4000")],
            ["--e2-sentence-ends", "the id 4000", "256 tokens"],
        ),
        "refused by Megatron": (["--hidden-size", "63"], ["Megatron refuses", "hidden_size"]),
    }


def accepted(folder):
    """Changes that look like the mistakes above and are none."""
    load = ["--load", str(folder / "checkpoint")]
    return {
        "resumed as it was": load,
        "resumed on purpose": [*load, "--e2-max-scale", "8", "--e2-override"],
        "fine-tuned": [*load, "--e2-max-scale", "8", "--finetune"],
        "half a loss mask, ignored": ["--data-path", str(folder / "half masked")]
        + ["--ignore-loss-masks"],
        "sentences": ["--e2-placement", "sentences"],
        "named sentence ends": [
            *("--e2-placement", "sentences:0.5,plain:0.5", *NO_TEXT),
            *("--e2-sentence-ends", ids_file(folder, "7\n9\n")),
        ],
        "resumed with another validation": [*load, "--e2-validation-windows", "64"],
    }


def run(argv, code=0):
    more = {"PYTHONWARNINGS": "ignore", "PYTHON": quick_python()}
    return run_command("pretrain_e2.py", *argv, code=code, **more)


def test_every_mistake_is_one_line(good, folder, subtests):
    cases = mistakes(folder)
    commands = {name: [*good, *change] for name, (change, _) in cases.items()}
    commands |= {name: [*good, *change] for name, change in accepted(folder).items()}
    refused = refusals({name: ["2", *command] for name, command in commands.items()})
    for name in accepted(folder):
        with subtests.test(name):
            assert name not in refused
    for name, (_, words) in cases.items():
        with subtests.test(name):
            assert name in refused
            assert "\n" not in refused[name]
            assert len(refused[name]) < 500
            for word in words:
                assert word in refused[name]


def test_exit_code_and_no_traceback(good, folder):
    result = run([*good, "--data-path", str(folder / "nothing")], code=2)
    assert refused_by(result, (), alone=False).startswith("--data-path")
    assert len([line for line in result.stderr.splitlines() if "error" in line]) == 1


def test_the_checkpoint_keeps_the_blend_and_a_resumed_run_is_compared_with_it(good, folder):
    _, _, blended, resumed = (folder / "world" / "world.log").read_text().split("===== ")
    assert f"> data: all 75.0% {folder}/corpus, 40 documents, 16,040 tokens" in blended
    stored = TorchDistReader(folder / "blended" / "iter_0000001").common()["args"]
    assert [part["weight"] for part in stored.data_blend] == [0.75, 0.25]
    assert [part["tokens"] for part in stored.data_blend] == [16040, 6000]
    assert "was trained on corpus 75.0% (all, 16040 tokens), second 25.0%" in resumed
    assert "this run's data is corpus 100.0%" in resumed


def test_longer_than_the_base_window_is_warned_about(good):
    change = ["--seq-length", "128", "--max-position-embeddings", "128", "--e2-base-window", "64"]
    result = run([*good, *change])
    assert "C1 of docs/paper.md" in result.stdout
    assert "> layout: TP 1 x PP 1 x CP 1 x DP 1, no recompute" in result.stdout
    assert (
        "> kernels: attention flash, norm plain, SwiGLU plain, cross entropy plain, RoPE plain"
        in result.stdout
    )
    assert "> work: 1,024 tokens an iteration (8 windows of 128" in result.stdout
    assert "iteration        1/       1" in result.stdout


def test_a_validation_window_longer_than_the_data(good):
    windows = ["--eval-iters", "1", "--e2-validation-windows", "100000"]
    words = "--e2-validation-windows 100000: the validation split holds only"
    result = run([*good, *windows], code=2)
    assert words in refused_by(result, (), alone=False)
    assert "iteration        1/" not in result.stdout  # nothing is lost


def test_a_split_without_documents_is_refused_and_does_not_hang(good):
    result = run([*good, "--split", "99,1,0", "--eval-iters", "1"], code=2)
    refused_by(result, ["error: --split 99,1,0: no text of", "valid split"], alone=False)
