# SPDX-License-Identifier: Apache-2.0
"""train_e2_hf.py: what it ends in, LoRA, resuming, several processes."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import train_e2_hf
from e2_llm.exported import Exported
from e2_llm.window import with_window
from e2_tools.checkpoint.hf_reader import HFReader
from e2_tools.checkpoint.set_window import set_window
from e2_tools.tuning.arguments import build_parser
from e2_tools.tuning.data import tokenised
from e2_tools.tuning.trainer import E2Trainer
from tests.helpers.commands import call, refused, run_command

LINE = re.compile(r"^ iteration (\d+)/\d+ \| loss (\S+) .*e2 scale (\S+)", flags=re.MULTILINE)
TOKENS = torch.randint(0, 256, (1, 60), generator=torch.Generator().manual_seed(1))


def command(start, save, *more):
    return [
        *("--model", start / "model", "--data-path", start / "corpus", "--split", "80,20,0"),
        *("--data-cache-path", start / "cache", "--save", save, "--train-iters", "4"),
        *("--global-batch-size", "4", "--micro-batch-size", "2", "--lr", "1e-2"),
        *("--log-interval", "1", "--save-interval", "2", "--seq-length", "32"),
        *("--e2-max-scale", "8", "--e2-recipe", "best", "--e2-draw-per", "sample", *more),
    ]


def train(capsys, start, save, *more):
    """Train in this process; returns losses and mean scales by step, and what was said."""
    capsys.readouterr()
    call(train_e2_hf.main, *command(start, save, *more))
    return lines(capsys.readouterr().out)


def lines(text):
    return {int(step): (float(loss), float(scale)) for step, loss, scale in LINE.findall(text)}


def test_a_run_ends_in_a_folder_that_serves_any_window(start, tmp_path, capsys):
    capsys.readouterr()
    save, curves = tmp_path / "tuned", tmp_path / "curves"
    more = ["--eval-iters", "1", "--eval-interval", "4", "--e2-validation-windows", "32", "64"]
    call(train_e2_hf.main, *command(start, save, *more, "--tensorboard-dir", curves))
    out = capsys.readouterr().out
    assert "> positions: e2, L = 64, R = 32, g up to 8" in out
    assert "> data: all 100.0%" in out
    assert len(lines(out)) == 4
    assert re.search(r"eval_loss_window_32 \S+ \| eval_context_gain_window_32 \S+", out)
    assert any(curves.iterdir())
    names = {path.name for path in save.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    content = json.loads((save / "config.json").read_text())
    exported = Exported.from_config(content)
    assert (exported.base_window, exported.train_window, exported.iteration) == (64, 32, 4)
    assert content["use_cache"] is True
    set_window(save, 256)
    config = AutoModelForCausalLM.from_pretrained(save).config
    assert config.rope_parameters["factor"] == 4
    before, after = (
        load_file(start / "model/model.safetensors"),
        load_file(save / "model.safetensors"),
    )
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "whole", [pytest.param([], marks=pytest.mark.slow), ["--lora-train-whole", "norms"]]
)
def test_a_lora_moves_what_it_should_and_merges(start, tmp_path, capsys, whole):
    adapter, merged = tmp_path / "adapter", tmp_path / "merged"
    lora = ["--lora", "4", "--lora-targets", "q_proj", "v_proj", *whole]
    first = train(capsys, start, adapter, *lora)
    assert train(capsys, start, merged, *lora, "--merge", "--gradient-checkpointing") == first

    shapes = HFReader(adapter, ("adapter_model.safetensors",)).shapes
    kinds = {re.sub(r"\.(lora_\w\.)?weight$", "", name).split(".")[-1] for name in shapes}
    norms = {"norm", "input_layernorm", "post_attention_layernorm", "q_norm", "k_norm"}
    assert kinds == {"q_proj", "v_proj"} | (norms if whole else set())
    before, after = (
        load_file(folder / "model.safetensors") for folder in (start / "model", merged)
    )
    moved = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert moved == kinds

    content = json.loads((merged / "config.json").read_text())
    for scale in (1, 2, 4):
        served = with_window(content, 64 * scale)
        rope = {"rope_parameters": served["rope_parameters"], "max_position_embeddings": 64 * scale}
        base = AutoModelForCausalLM.from_pretrained(start / "model", **rope)
        logits = []
        for model in (
            PeftModel.from_pretrained(base, adapter),
            AutoModelForCausalLM.from_pretrained(merged, **rope),
        ):
            with torch.no_grad():
                logits.append(model.eval()(TOKENS).logits)
        torch.testing.assert_close(*logits, atol=1e-4, rtol=0)


def interrupt(capsys, monkeypatch, start, save):
    """Train until the fourth of four steps; a checkpoint holds the first two."""
    step = E2Trainer.training_step

    def interrupted(trainer, *args, **kwargs):
        if trainer.state.global_step == 3:
            raise KeyboardInterrupt
        return step(trainer, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(E2Trainer, "training_step", interrupted)
        with pytest.raises(SystemExit, match="130"):
            train(capsys, start, save)


def test_an_interrupted_run_goes_on(start, tmp_path, capsys, monkeypatch):
    whole = train(capsys, start, tmp_path / "whole")
    interrupt(capsys, monkeypatch, start, tmp_path / "cut")
    again = command(start, tmp_path / "cut")
    other = [*again[:-4], "--e2-recipe", "paper"]
    for words, more in (("--e2-placement skips there", other), ("--seed 1234", ["--seed", "5"])):
        refused(capsys, words, call, train_e2_hf.main, *again, *more, alone=False)
    shutil.copytree(tmp_path / "cut-checkpoints", tmp_path / "slower-checkpoints")
    slower = ["--lr", "1e-3", "--lr-decay-style", "constant"]
    call(train_e2_hf.main, *command(start, tmp_path / "slower", *slower))
    assert re.findall(r"learning_rate (\S+)", capsys.readouterr().out) == ["0.001", "0.001"]
    rest = train(capsys, start, tmp_path / "cut")
    assert sorted(rest) == [3, 4]
    assert rest == {step: whole[step] for step in rest}
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_texts_are_tokenised_once(start, tmp_path, capsys):
    text = tmp_path / "texts.jsonl"
    words = " ".join(f"w{number}" for number in range(200))
    text.write_text("".join(json.dumps({"text": words}) + "\n" for _ in range(20)))
    data = command(start, tmp_path / "tuned")
    del data[2:6]  # --data-path, --split
    call(train_e2_hf.main, *data, "--text", text)
    out = capsys.readouterr().out
    assert "Wrote 20 documents, 4,020 tokens" in out
    assert len(lines(out)) == 4

    def name(folder):
        args = build_parser().parse_args([*map(str, data), "--text", str(text)])
        args.checkpoint_dir = tmp_path / "tuned-checkpoints"
        return Path(tokenised(args, folder)).name

    other = shutil.copytree(start / "model", tmp_path / "other")
    again = {name(start / "model"), name(other)}
    assert len(again) == 1
    content = json.loads((other / "tokenizer.json").read_text())
    (other / "tokenizer.json").write_text(json.dumps(content, indent=1))
    assert name(other) not in again


def on_two_processes(start, save, *more):
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    words += ["train_e2_hf.py", *command(start, save, *more)]
    return lines(run_command(*words, timeout=250).stdout)


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_with_two(start, tmp_path, capsys, monkeypatch):
    whole = train(capsys, start, tmp_path / "whole")
    interrupt(capsys, monkeypatch, start, tmp_path / "cut")
    rest = on_two_processes(start, tmp_path / "cut")
    assert sorted(rest) == [3, 4]
    for step, (loss, scale) in rest.items():
        assert loss == pytest.approx(whole[step][0], abs=1e-4)
        assert scale == whole[step][1]


@pytest.mark.slow
@pytest.mark.parametrize("lora", [[], ["--lora", "4", "--merge"]])
def test_two_processes_train_what_one_does(start, tmp_path, capsys, lora):
    one = train(capsys, start, tmp_path / "one", *lora)
    two = on_two_processes(start, tmp_path / "two", *lora)
    assert len(two) == 4
    for step, (loss, scale) in two.items():
        assert loss == pytest.approx(one[step][0], abs=1e-4)
        assert scale == one[step][1]


@pytest.mark.slow
def test_a_model_that_serves_a_long_window_is_tuned_from_its_own(start, tmp_path, capsys):
    """The scale that stands in its config.json is no part of the training."""
    folder = tmp_path / "start"
    shutil.copytree(start, folder)
    expected = train(capsys, folder, tmp_path / "one")
    model = folder / "model"
    set_window(model, 256)
    assert json.loads((model / "config.json").read_text())["max_position_embeddings"] == 256
    assert train(capsys, folder, tmp_path / "two") == expected
    contents = [json.loads((tmp_path / n / "config.json").read_text()) for n in ("one", "two")]
    assert contents[0]["rope_parameters"] == contents[1]["rope_parameters"]
    assert contents[0]["e2_llm"] == contents[1]["e2_llm"]


@pytest.mark.slow
def test_documents_apart_are_validated_apart(start, tmp_path, capsys):
    long = ["--seq-length", "64"]
    together = train(capsys, start, tmp_path / "together", *long)
    argv = command(start, tmp_path / "apart", *long, "--dataloader-inter-document-masking")
    argv += ["--eval-iters", "1", "--eval-interval", "4", "--e2-validation-windows", "64"]
    call(train_e2_hf.main, *argv)
    out = capsys.readouterr().out
    assert "> documents: apart" in out
    assert "eval_loss_window_64" in out
    apart = lines(out)
    assert [scale for _, scale in apart.values()] == [scale for _, scale in together.values()]
    assert apart != together


@pytest.mark.slow
def test_what_a_lora_trains_is_fp32_also_beside_a_bf16_model(start, tmp_path, capsys, monkeypatch):
    found = []
    step = E2Trainer.training_step

    def noted(trainer, model, *args, **kwargs):
        found.extend(p.dtype for p in model.parameters() if p.requires_grad)
        return step(trainer, model, *args, **kwargs)

    monkeypatch.setattr(E2Trainer, "training_step", noted)
    train(capsys, start, tmp_path / "out", "--bf16", "--lora", "2", "--lora-train-whole", "norms")
    assert {*found} == {torch.float32}


@pytest.mark.slow
def test_bf16_follows_fp32(start, tmp_path, capsys):
    exact = train(capsys, start, tmp_path / "fp32")
    rounded = train(capsys, start, tmp_path / "bf16", "--bf16")
    for step, (loss, _) in exact.items():
        assert rounded[step][0] == pytest.approx(loss, rel=2e-2)
    config = json.loads((tmp_path / "bf16" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
