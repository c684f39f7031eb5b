# SPDX-License-Identifier: Apache-2.0
"""--dtype auto: what is chosen, where it is said, and that scores of a trained model agree."""

import argparse
import json

import pytest
import torch
from transformers import LlamaForCausalLM

from e2_tools.commands import evaluate_passkey, plot_results
from e2_tools.evaluation import model as models
from e2_tools.evaluation import precision
from e2_tools.evaluation.conditions import conditions, in_words
from e2_tools.evaluation.precision import Choice, choose_dtype, faster
from tests.helpers import word_model
from tests.helpers.commands import refused
from tests.tools.evaluation.longbench_records import predict, write_tasks
from transformers_patches.generation import generate

CPU = torch.device("cpu")
LARGE = {"hidden_size": 512, "intermediate_size": 1536}
AUTO = argparse.Namespace(dtype="auto")


@pytest.mark.parametrize(
    ("fp32", "bf16", "chosen"),
    [(10.0, 2.0, "bf16"), (10.0, 7.6, "bf16"), (10.0, 7.8, "fp32"), (5.0, 14.0, "fp32")],
)
def test_bf16_has_to_be_clearly_faster(monkeypatch, fp32, bf16, chosen):
    monkeypatch.setattr(precision, "_milliseconds", lambda *_: {"fp32": fp32, "bf16": bf16})
    found = choose_dtype(AUTO, LARGE, CPU)
    assert found.dtype == chosen
    assert f"{fp32:g} ms" in found.reason
    assert f"{bf16:g} ms" in found.reason
    for asked in ("fp32", "bf16"):
        assert choose_dtype(argparse.Namespace(dtype=asked), LARGE, CPU) == Choice(asked)


def test_a_small_model_is_not_timed(monkeypatch):
    monkeypatch.setattr(precision, "_milliseconds", None)
    assert faster({"hidden_size": 192, "intermediate_size": 512}, CPU).dtype == "fp32"
    assert faster({"hidden_size": 64}, CPU).dtype == "fp32"
    assert faster({}, CPU).dtype == "fp32"


def test_really_timed():
    assert set(precision._milliseconds(16, 64, 128, CPU)) == {"fp32", "bf16"}
    assert all(0 < taken < 1e4 for taken in precision._milliseconds(16, 64, 128, CPU).values())
    assert faster(LARGE, CPU).dtype in ("fp32", "bf16")


def run(model, output, *flags):
    arguments = ["--model", model, "--output", output, "--device", "cpu", "--windows", 400]
    arguments += ["--trials", 1, *flags]
    evaluate_passkey.main([str(each) for each in arguments])
    return json.loads(output.read_text())


def test_the_choice_is_said_recorded_and_kept(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(precision, "faster", lambda *_: Choice("bf16", "it is fast"))
    loaded, own = [], models.load_model

    def load(path, dtype, device):
        loaded.append(dtype)
        return own(path, dtype, device)

    monkeypatch.setattr(models, "load_model", load)
    path = tmp_path / "a.json"
    results = run(model, path, "--depths", 0)
    assert results["dtype"] == "bf16"
    assert "note: --dtype auto: bf16, it is fast\n" in capsys.readouterr().err
    assert "dtype bf16" in in_words(conditions(results))

    # Another machine, which would choose otherwise, goes on with what is there.
    monkeypatch.setattr(precision, "faster", lambda *_: Choice("fp32", "it is fast"))
    results = run(model, path, "--depths", 0, 50, "--resume")
    assert results["dtype"] == "bf16"
    assert len(results["results"]) == 2
    assert f"bf16, as {path} has it" in capsys.readouterr().err
    assert loaded == [torch.bfloat16] * 2
    again = [model, path, "--depths", 0, "--resume", "--dtype", "fp32"]
    refused(capsys, "dtype was bf16 and now is fp32", run, *again, untouched=tmp_path)

    # Files of two machines in one picture.
    other = tmp_path / "b.json"
    assert run(model, other, "--depths", 0, 50)["dtype"] == "fp32"
    capsys.readouterr()
    plot_results.main([str(path), str(other), "--output", str(tmp_path / "p.png")])
    assert "differ in dtype" in capsys.readouterr().err
    content = json.loads(other.read_text())
    del content["dtype"]  # a file of an older version
    other.write_text(json.dumps(content))
    plot_results.main([str(path), str(other), "--output", str(tmp_path / "p.png")])
    assert "dtype" not in capsys.readouterr().err


def test_longbench_always_goes_on_with_what_was_chosen(model, tmp_path, monkeypatch):
    data = write_tasks(tmp_path / "data")
    flags = ["--dtype", "auto", "--limit", 1, "--tasks", "trec"]
    for found, task in (("bf16", "trec"), ("fp32", "hotpotqa")):
        monkeypatch.setattr(precision, "faster", lambda *_, found=found: Choice(found, "it is"))
        predict(model, data, tmp_path / "out", *flags, "--tasks", task)
        settings = json.loads((tmp_path / "out" / "settings.json").read_text())
        assert settings["dtype"] == "bf16"


@pytest.mark.parametrize("content", ["", "[]", '{"dtype": "fp64"}', '{"dtype": 3}', "\x89PNG"])
def test_what_is_no_result_does_not_choose(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content, encoding="latin-1")
    args = argparse.Namespace(dtype="auto", output=path, resume=True)
    assert choose_dtype(args, {}, CPU).dtype == "fp32"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The word model after it has learnt to go on with twelve words in a circle."""
    path = word_model.save_model(tmp_path_factory.mktemp("trained"))
    torch.manual_seed(0)
    net = LlamaForCausalLM.from_pretrained(path, dtype=torch.float32)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    circle = torch.tensor(word_model.ids_of(word_model.WORDS[:12] * 5))
    for step in range(80):
        ids = torch.stack([circle[at : at + 32] for at in range(step % 4, 12, 4)])
        net(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    net.save_pretrained(path)
    return path


def test_scores_of_a_trained_model_agree(trained, tmp_path):
    """Answers are the same and right, perplexities are the same to a percent."""
    circle = word_model.WORDS[:12] * 5
    data = word_model.write_data(tmp_path / "data.jsonl", [circle, circle[5:]])
    perplexities = []
    for dtype in ("fp32", "bf16"):
        flags = ["--windows", 32, "--stride", 16, "--dtype", dtype]
        results = word_model.evaluate(trained, data, tmp_path / f"{dtype}.json", *flags)
        perplexities.append(results["results"][0]["perplexity"])
        net = models.load_model(trained, precision.DTYPES[dtype], CPU)
        (answer,) = generate(net, [word_model.ids_of(circle[:15])], 12, scale=1.0, stop=[])
        assert answer == word_model.ids_of(circle[15:27])
    fp32, bf16 = perplexities
    assert fp32 < 3  # of 64 words
    assert bf16 == pytest.approx(fp32, rel=0.01)
    assert bf16 != fp32
