# SPDX-License-Identifier: Apache-2.0
"""What a user gets wrong on the command line of train_e2_hf.py: one line, exit code 2."""

import json
import shutil

import pytest

import train_e2_hf
from e2_tools.tuning.checkpoints import checkpoints
from e2_tools.tuning.run import FOLDERS
from tests.helpers.commands import call, refused
from tests.helpers.families import make_model
from tests.tools.tuning.test_train_e2_hf import command

WRONG = {
    "--train-iters 0": ["--train-iters", "0"],
    "--lr -1.0": ["--lr", "-1"],
    "--lr nan": ["--lr", "nan"],
    "--adam-eps inf": ["--adam-eps", "inf"],
    "--seed 4294967296": ["--seed", str(2**32)],
    "the loss is not a finite number": [
        *("--lr", "1e30", "--clip-grad", "0", "--save-interval", "9"),
    ],
    "a weight is not a finite number": [  # which no loss has told yet
        *("--lr", "1e30", "--clip-grad", "0", "--log-interval", "9", "--save-interval", "9"),
    ],
    "--min-lr 1: is above --lr": ["--min-lr", "1"],
    "--lr-warmup-iters 4: must be below": ["--lr-warmup-iters", "4"],
    "--lr-warmup-fraction 1.0: must be": ["--lr-warmup-fraction", "1"],
    "--global-batch-size 3: is no multiple of 2": ["--global-batch-size", "3"],
    "--merge is only for --lora": ["--merge"],
    "--lora-targets is only for --lora": ["--lora-targets", "q_proj"],
    "--lora-targets proj: no such matrix": ["--lora", "2", "--lora-targets", "proj"],
    "--lora-dropout 1.0": ["--lora", "2", "--lora-dropout", "1"],
    "one of --data-path and --text": ["--text", "x.jsonl"],
    "--e2-validation-windows: needs --eval-iters": ["--e2-validation-windows", "64"],
    "--e2-max-scale 0": ["--e2-max-scale", "0"],
    "--seq-length 600 is more than the largest scale": ["--seq-length", "600"],
    "--no-such-flag": ["--no-such-flag"],
    "--rope-scaling keep: would hold the one factor": ["--rope-scaling", "keep"],
    "--reset-attention-mask: is Megatron's": ["--reset-attention-mask"],
    "--tensor-model-parallel-size: is Megatron's": ["--tensor-model-parallel-size", "2"],
    "--split a": ["--split", "a"],
    "--split 80,0,20: leaves nothing to validate": ["--split", "80,0,20", "--eval-iters", "1"],
    "--split 0,100,0": ["--split", "0,100,0"],
    "--e2-validation-windows 9999: the validation split holds only": [
        *("--eval-iters", "1", "--e2-validation-windows", "9999"),
    ],
    "keeps the documents of one window apart only": [
        *("--dataloader-inter-document-masking", "--attention", "flash_attention_2"),
    ],
    "--keep-checkpoints 0": ["--keep-checkpoints", "0"],
    "--lora 0": ["--lora", "0"],
    "turns end where a loss mask changes": ["--e2-placement", "turns"],
}


@pytest.mark.parametrize("words", WRONG)
def test_flags(start, tmp_path, capsys, words):
    argv = command(start, tmp_path / "out", *WRONG[words])
    kept = None if "finite number" in words else tmp_path  # it has begun to train
    refused(capsys, words, call, train_e2_hf.main, *argv, untouched=kept, alone=False)
    assert not checkpoints(tmp_path / "out-checkpoints")
    assert not (tmp_path / "out").exists()


def test_a_missing_model_and_missing_data(start, tmp_path, capsys):
    argv = command(start, tmp_path / "out")
    for flag, at in (("--model", 1), ("--data-path", 3)):
        wrong = [*argv]
        wrong[at] = tmp_path / "nothing"
        words = [flag, "nothing"]
        refused(capsys, words, call, train_e2_hf.main, *wrong, untouched=tmp_path, alone=False)


def test_a_folder_that_holds_something_is_left_alone(start, tmp_path, capsys):
    save = tmp_path / "out"
    save.mkdir()
    (save / "precious").write_text("text")
    argv = command(start, save)
    refused(capsys, "already exists", call, train_e2_hf.main, *argv, untouched=tmp_path)


@pytest.mark.parametrize("save", [".", "..", "/", "x/.."])
def test_a_folder_without_a_name(start, tmp_path, capsys, save):
    argv = command(start, save)
    refused(capsys, f"--save {save}", call, train_e2_hf.main, *argv, untouched=tmp_path)


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_that_cannot_be_made_or_are_the_models(start, tmp_path, capsys, name):
    flag = f"--{name.replace('_', '-')}"
    shutil.copytree(start / "model", tmp_path / "model")
    argv = command(start, tmp_path / "out")
    argv[1] = tmp_path / "model"
    for folder in (tmp_path / "model", tmp_path / "model" / "more"):
        if (name, folder.name) != ("save", "model"):  # which exists
            more = [flag, folder]
            words = [flag, "lies in --model"]
            refused(capsys, words, call, train_e2_hf.main, *argv, *more, untouched=tmp_path)
    if name == "save":
        argv += ["--checkpoint-dir", tmp_path / "checkpoints"]
    nowhere = [*argv, flag, "/proc/nothing"]  # also for root
    refused(capsys, f"{flag} /proc/nothing", call, train_e2_hf.main, *nowhere, alone=False)


def test_a_lora_of_what_is_no_matrix(start, tmp_path, capsys):
    names = {name.rpartition(".")[2] for name, _ in make_model("qwen3").named_modules() if name}
    matrices = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    for name in names - matrices - {"lm_head"}:
        argv = command(start, tmp_path / "out", "--lora", "2", "--lora-targets", "q_proj", name)
        words = [f"--lora-targets {name}: no such matrix", "down_proj, gate_proj"]
        refused(capsys, words, call, train_e2_hf.main, *argv, untouched=tmp_path, alone=False)
    whole = ["--lora", "2", "--lora-targets", "lm_head", "--lora-train-whole", "embeddings"]
    argv = command(start, tmp_path / "out", *whole)
    refused(capsys, "trains lm_head whole", call, train_e2_hf.main, *argv, alone=False)
    tied = tmp_path / "tied"
    shutil.copytree(start / "model", tied)
    make_model("qwen2").save_pretrained(tied)
    for more in (["--lora-targets", "lm_head"], ["--lora-train-whole", "embeddings"]):
        argv = command(start, tmp_path / "out", "--lora", "2", *more)
        argv[1] = tied
        words = [" ".join(more), "one matrix for both ends"]
        refused(capsys, words, call, train_e2_hf.main, *argv, alone=False)


@pytest.mark.parametrize("flag", ["--checkpoint-dir", "--tensorboard-dir", "--data-cache-path"])
def test_nothing_else_goes_into_the_folder_of_the_model(start, tmp_path, capsys, flag):
    argv = command(start, tmp_path / "out", flag, tmp_path / "out" / "more")
    refused(capsys, [flag, "--save"], call, train_e2_hf.main, *argv, untouched=tmp_path)


def test_models_of_other_kinds(start, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(start / "model", model)
    content = json.loads((model / "config.json").read_text())
    argv = command(start, tmp_path / "out")
    argv[1] = model
    for change, words in (
        ({"model_type": "gemma3_text"}, "gemma3_text"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}}, "original"),
        ({"hidden_size": "many"}, "hidden_size"),
    ):
        (model / "config.json").write_text(json.dumps(content | change))
        refused(capsys, words, call, train_e2_hf.main, *argv, untouched=tmp_path, alone=False)


def test_the_flags_of_other_commands_are_not_named(start, tmp_path, capsys):
    """Parts of the converter and of preprocess_data.py refuse here too."""
    model = tmp_path / "model"
    shutil.copytree(start / "model", model)
    argv = command(start, tmp_path / "out")
    argv[1] = model
    texts = [*argv[:2], "--text", tmp_path / "no.jsonl", *argv[6:]]
    refused(capsys, "--text", call, train_e2_hf.main, *texts, alone=False)
    (model / "tokenizer.json").write_text("{")
    said = refused(capsys, "--model", call, train_e2_hf.main, *argv, alone=False)
    assert "--tokenizer-model" not in said
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).unlink()
    more = ["--e2-placement", "sentences"]
    refused(capsys, "--e2-sentence-ends", call, train_e2_hf.main, *argv, *more, alone=False)


def test_ids_of_another_tokenizer(start, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(start / "model", model)
    content = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(content | {"vocab_size": 100}))
    argv = command(start, tmp_path / "out")
    argv[1] = model
    refused(capsys, "the vocabulary has 100", call, train_e2_hf.main, *argv, alone=False)
