# SPDX-License-Identifier: Apache-2.0
"""Passkey retrieval: the prompt, its place in the window, results, resuming."""

import json
import re

import pytest
from matplotlib import image

from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_tools.commands.evaluate_passkey import main
from e2_tools.evaluation.passkey.prompt import (
    ANSWER_PREFIX,
    FILLER,
    LARGEST_KEY,
    Passkey,
    build_question,
    draw_key,
)
from e2_tools.evaluation.retrieval.grid import fill, reader
from e2_tools.evaluation.retrieval.heat_map import Grid, draw_heat_maps
from tests.helpers.commands import refused
from tests.helpers.tiny_llama import BASE_WINDOW


def run(model, output, *flags):
    arguments = ["--model", model, "--output", output, "--device", "cpu", *flags]
    main([str(argument) for argument in arguments])
    return json.loads(output.read_text())


@pytest.fixture
def oracle(monkeypatch, model):
    """A model that finds the key, though not in windows above 600: it sees what it is asked."""
    tokenizer, asked = load_hf_tokenizer(model), []

    def answer(net, prompts, max_new_tokens, *, config, scale, shared):
        asked.append((scale, max(map(len, prompts))))
        texts = [tokenizer.decode(prompt, skip_special_tokens=True) for prompt in prompts]
        keys = [re.search(r"key is (\d+)\. Remember it", text)[1] for text in texts]
        keys = [key if len(p) < 600 else "no" for key, p in zip(keys, prompts, strict=True)]
        return [tokenizer(f" {key}. 7", add_special_tokens=False).input_ids[:10] for key in keys]

    monkeypatch.setattr("e2_tools.evaluation.retrieval.grid.generate", answer)
    return asked


# --- the prompt ---


def test_five_lines_with_the_key_at_its_depth():
    lines = build_question(1000, 30, 123).split("\n")
    assert len(lines) == 5
    assert [len(lines[1]), len(lines[3])] == [300, 700]
    assert lines[0].startswith("There is an important info hidden inside a lot of irrelevant text.")
    assert lines[1].startswith(f"{FILLER} The grass")
    assert lines[2] == "The pass key is 123. Remember it. 123 is the pass key."
    assert lines[3].startswith(f"{FILLER} The grass")  # both from the beginning
    assert lines[4] == "What is the pass key?"
    assert (
        Passkey(0).question(99, 1, 0, 0).prompt.endswith("\nWhat is the pass key? The pass key is")
    )
    assert build_question(0, 50, 1).split("\n")[1::2] == ["", ""]


def test_keys_depend_on_their_cell_alone():
    keys = [draw_key(0, window, depth, n) for window in (1, 2) for depth in (0, 50) for n in (0, 1)]
    assert len(set(keys)) == len(keys)
    assert all(1 <= key <= LARGEST_KEY for key in keys)
    assert draw_key(0, 2, 50.0, 1) == keys[-1] != draw_key(1, 2, 50.0, 1)


@pytest.mark.parametrize("window", [300, 512, 2000])
def test_the_prompt_fills_the_window_and_no_more(model, window):
    tokenizer = load_hf_tokenizer(model)
    read = reader(tokenizer)
    filler = fill(Passkey(0), read, window)
    for depth in (0, 33, 100):
        for key in (1, LARGEST_KEY):
            question = build_question(filler, depth, key) + ANSWER_PREFIX
            length = len(tokenizer(question).input_ids)
            assert window - 10 - 8 - 8 <= length <= window - 10


@pytest.mark.parametrize(
    ("answer", "right"),
    [(" 123.", True), ("\n123", True), ("is 123", True), (" 1234", False), (" 12 123", False),
     ("", False), ("none", False)],
)  # fmt: skip
def test_the_first_number_counts(answer, right):
    assert Passkey(0).is_right(answer, {"key": 123}) == right


# --- end to end ---


def test_grid_scales_table_and_heat_map(model, tmp_path, oracle, capsys):
    output, picture = tmp_path / "new" / "passkey.json", tmp_path / "new" / "passkey.png"
    flags = ["--windows", 512, 1000, "--depths", 0, 50, 100, "--trials", 3, "--batch-size", 2]
    results = run(model, output, *flags, "--heat-map", picture)
    assert results["schema"] == "e2-llm/passkey/1"
    assert results["base_window"] == BASE_WINDOW
    cells = {(cell["window"], cell["depth"]): cell for cell in results["results"]}
    assert list(cells) == [(w, d) for w in (512, 1000) for d in (0, 50, 100)]
    for (window, depth), cell in cells.items():
        assert cell["scale"] == {512: 2, 1000: 4}[window]
        assert cell["accuracy"] == {512: 1, 1000: 0}[window]
        assert (cell["trials"], cell["correct"]) == (3, 3 * cell["accuracy"])
        keys = [draw_key(0, window, depth, trial) for trial in range(3)]
        wrong = [] if window == 512 else [{"key": key, "answer": " no. 7"} for key in keys]
        assert cell["wrong"] == wrong
    assert [scale for scale, _ in oracle] == [2.0] * 6 + [4.0] * 6
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["depth", "512", "1000"],
        *([depth, "%", "100", "0"] for depth in ("0", "50", "100")),
        ["mean", "100.0", "0.0"],
    ]
    assert image.imread(picture).ndim == 3
    assert sorted(file.name for file in output.parent.iterdir()) == ["passkey.json", "passkey.png"]


def test_resume_asks_only_for_what_is_missing(model, tmp_path, oracle, capsys):
    output = tmp_path / "passkey.json"
    flags = ["--depths", 50, "--trials", 1]
    run(model, output, "--windows", 512, *flags)
    results = run(model, output, "--windows", 512, 640, *flags, "--resume")
    assert len(oracle) == 2
    assert [cell["window"] for cell in results["results"]] == [512, 640]
    again = [model, output, "--windows", 512, "--trials", 2, "--resume"]
    refused(capsys, "trials was 1 and now is 2", run, *again, untouched=tmp_path)
    assert json.loads(output.read_text()) == results


def test_the_model_is_really_asked(model, tmp_path):
    """A random model finds nothing, and says so in full."""
    flags = ["--windows", 512, "--depths", 50, "--trials", 2, "--scale", 2]
    (cell,) = run(model, tmp_path / "a.json", *flags)["results"]
    assert (cell["accuracy"], cell["scale"], len(cell["wrong"])) == (0, 2, 2)
    batched = run(model, tmp_path / "b.json", *flags, "--batch-size", 2)["results"]
    assert batched == [cell]


def test_the_picture_has_a_place_for_what_was_not_asked():
    figure = draw_heat_maps({"T": Grid([4096, 8192], [0, 100], [[1.0, 0.5], [None, 0.0]])})
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["4k", "8k"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["0 %", "100 %"]
    assert [text.get_text() for text in axes.texts] == ["100", "50", "0"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--windows", 100], ("--windows 100", "too small")),
        (["--windows", 512, "--resume"], ("out.json", "schema")),
        (["--windows", 512, "--model", "nosuch"], ("nosuch", "--model")),
        (["--windows", 512, "--heat-map", "."], (".: is a folder",)),
    ],
)
def test_mistakes_are_one_line(model, tmp_path, capsys, flags, words):
    output = tmp_path / "out.json"
    output.write_text("{}")
    refused(capsys, words, run, model, output, *flags, untouched=tmp_path)


def test_bad_percentages_are_refused(model, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:  # argparse's own refusal, after the usage
        run(model, tmp_path / "o.json", "--windows", 512, "--depths", 101)
    assert stop.value.code == 2
    assert "no percentage" in capsys.readouterr().err
