# SPDX-License-Identifier: Apache-2.0
"""Span recall: windows to train on, questions, right answers, the retrieval picture and table."""

import importlib.util
import json
from collections import Counter

import pytest
from matplotlib import image

from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_tools.commands import evaluate_recall, plot_results
from e2_tools.evaluation.recall.prompt import Recall
from e2_tools.evaluation.recall.words import CONTENT, NOISE, SPAN, training_windows
from tests.helpers import ROOT
from tests.helpers.commands import refused


@pytest.mark.parametrize("length", [32, 64, 128])
def test_what_is_learnt_was_told_before(length):
    spans = lost = 0
    for window in training_windows(length, 200, 7):
        words = window.text.split(" ")
        assert len(words) == length
        ends = [0]
        for begin, end in window.learnt:
            assert begin >= ends[-1]  # ascending and apart, as preprocess_data.py wants them
            ends.append(end)
            assert window.text[begin - 1] == " "
            learnt = window.text[begin:end].split(" ")
            assert 1 <= len(learnt) < SPAN
            assert set(learnt) <= set(CONTENT)
            spans += 1
            lost += " ".join(learnt) not in window.text[:begin]
            assert window.text.count(learnt[-1]) <= 2
    # A window may begin in the middle of a slot: of few spans the first showing is not whole.
    assert lost < 0.2 * spans


def test_windows_depend_on_the_seed_alone():
    first, again, other = (list(training_windows(64, 20, seed)) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert list(training_windows(64, 5, 3)) == first[:5]


@pytest.mark.parametrize("among", ["noise", "spans"])
@pytest.mark.parametrize("size", [0, 4, 61, 500])
def test_a_question_tells_its_span_once_and_begins_it_again(among, size):
    test = Recall(1, among)
    for depth in (0, 50, 100):
        for trial in range(20):
            question = test.question(size, 64, depth, trial)
            *told, asked = question.prompt.split()
            span = question.hidden["span"].split()
            assert len(told) == size
            assert asked == span[0]
            if size < SPAN:
                continue
            (place,) = [i for i in range(size) if told[i : i + SPAN] == span]
            assert place == round(depth / 100 * (size // SPAN - 1)) * SPAN
            counts = Counter(told)
            assert all(counts[word] <= 1 for word in CONTENT)
            others = sum(counts[word] for word in CONTENT) - SPAN
            assert others == (0 if among == "noise" else min(15, size // SPAN - 1) * SPAN)
            assert test.question(size, 64, depth, trial) == question
            assert test.is_right(" ".join(span[1:]), question.hidden)
            assert not test.is_right(" ".join([*span[1:-1], NOISE[0]]), question.hidden)
            assert not test.is_right(" ".join(span[1:-1]), question.hidden)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example's tokenizer beside a random model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    path = ROOT / "examples" / "retrieval" / "prepare.py"
    spec = importlib.util.spec_from_file_location("prepare_retrieval", path)
    prepare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    folder = tmp_path_factory.mktemp("recall") / "model"
    prepare.write_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_word_is_a_token_and_comes_back(folder):
    tokenizer = load_hf_tokenizer(folder)
    window = next(training_windows(64, 1, 0))
    ids = tokenizer(window.text).input_ids
    assert len(ids) == 64
    assert tokenizer.decode(ids) == window.text


@pytest.fixture
def oracle(monkeypatch, folder):
    """A model that recalls what it sees, in windows of at most 64 tokens."""
    tokenizer = load_hf_tokenizer(folder)

    def answer(net, prompts, max_new_tokens, *, config, scale, shared):
        found = []
        for prompt in prompts:
            told = prompt.index(prompt[-1]) if len(prompt) <= 61 else 0
            found.append(prompt[told + 1 : told + SPAN])
        assert max_new_tokens == SPAN - 1
        assert all(tokenizer.decode(ids) for ids in found)
        return found

    monkeypatch.setattr("e2_tools.evaluation.retrieval.grid.generate", answer)


def run(folder, output, *flags):
    arguments = ("--model", folder, "--output", output, "--device", "cpu", *flags)
    evaluate_recall.main([str(argument) for argument in arguments])
    return json.loads(output.read_text())


def test_results_picture_and_table(folder, tmp_path, oracle, capsys):
    grid = ("--windows", 64, 128, "--depths", 0, 100, "--trials", 10, "--batch-size", 4)
    results = run(folder, tmp_path / "a.json", *grid, "--label", "ours")
    assert results["schema"] == "e2-llm/recall/1"
    assert results["among"] == "noise"
    cells = {(cell["window"], cell["depth"]): cell for cell in results["results"]}
    assert [cells[64, depth]["accuracy"] for depth in (0, 100)] == [1, 1]
    assert cells[128, 100]["accuracy"] == 0
    assert all(cell["prompt_tokens"] == cell["window"] - (SPAN - 1) for cell in cells.values())
    run(folder, tmp_path / "b.json", *grid, "--label", "ours", "--seed", 1)
    run(folder, tmp_path / "c.json", *grid, "--label", "theirs", "--among", "spans")
    capsys.readouterr()
    files = [str(tmp_path / name) for name in ("a.json", "b.json", "c.json")]
    picture = tmp_path / "p.png"
    plot_results.main([*files, "--seeds", "--table", "--output", str(picture)])
    printed = capsys.readouterr()
    assert "differ in among" in printed.err
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.out.splitlines()]
    assert rows[0] == ["window", "64", "128"]
    assert rows[2][:2] == ["ours", "100.0 ± 0.0"]
    assert rows[3][0] == "theirs"
    assert image.imread(picture).ndim == 3
    wrong = [*files, "--output", str(picture), "--metric", "perplexity"]
    kinds = "--metric: is for --kind window or attention, this is retrieval"
    refused(capsys, kinds, plot_results.main, wrong)


def test_the_model_is_really_asked(folder, tmp_path):
    (cell,) = run(folder, tmp_path / "a.json", "--windows", 100, "--depths", 50, "--trials", 3)[
        "results"
    ]
    assert (cell["scale"], cell["correct"]) == (100 / 64, 0)
    assert {len(wrong["answer"].split()) for wrong in cell["wrong"]} <= {0, 1, 2, 3}
