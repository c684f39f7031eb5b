# SPDX-License-Identifier: Apache-2.0
"""RULER's single needle: the prompt, haystacks, the metric, the grid it shares with passkey."""

import json
import re
import sys

import pytest

from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_tools.commands.evaluate_needle import main
from e2_tools.evaluation.model import load_model
from e2_tools.evaluation.needle.haystack import NOISE, Noise, Text
from e2_tools.evaluation.needle.prompt import Needle, draw_needle
from e2_tools.evaluation.retrieval.grid import fill, fitting, reader
from tests.helpers.commands import refused

TEXT = 'One two.  Three four!\n"Five six?" seven\neight.'


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "essay.txt"
    path.write_text(TEXT)
    return path


def run(model, output, *flags):
    arguments = ["--model", model, "--output", output, "--device", "cpu", *flags]
    main([str(argument) for argument in arguments])
    return json.loads(output.read_text())


def test_the_prompt_is_rulers_to_the_character():
    """Literally what RULER's niah.py gives for its niah_single_1 and _3, noise and essay."""
    key, value = draw_needle(0, 4096, 50, 0, "numbers")
    assert Needle(0, Noise(), "numbers").question(2, 4096, 50, 0).prompt == (
        "A special magic number is hidden within the following text. Make sure to memorize it. "
        "I will quiz you about the number afterwards.\n"
        "The grass is green. The sky is blue. The sun is yellow. Here we go. "
        "There and back again.\n"
        f"One of the special magic numbers for {key} is: {value}.\n"
        "The grass is green. The sky is blue. The sun is yellow. Here we go. "
        "There and back again.\n"
        f"What is the special magic number for {key} mentioned in the provided text? "
        f"The special magic number for {key} mentioned in the provided text is"
    )
    assert re.fullmatch(r"[1-9]\d{6}", value)
    question = Needle(0, Noise(), "uuids").question(0, 4096, 50, 0)
    key, value = question.hidden.values()
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value)
    assert question.prompt.splitlines()[:2] == [
        "A special magic uuid is hidden within the following text. Make sure to memorize it. "
        "I will quiz you about the uuid afterwards.",
        f"One of the special magic uuids for {key} is: {value}.",
    ]


def test_keys_are_an_adjective_and_a_noun_and_depend_on_their_cell_alone():
    drawn = [draw_needle(0, w, d, n, "numbers") for w in (1, 2) for d in (0, 50) for n in (0, 1)]
    assert len(set(drawn)) == len(drawn)
    assert all(re.fullmatch(r"[\w'.-]+-[\w'. -]+", key) for key, _ in drawn)
    assert draw_needle(0, 2, 50.0, 1, "numbers") == drawn[-1]
    assert draw_needle(1, 2, 50, 1, "numbers") != drawn[-1]


@pytest.mark.parametrize(("depth", "line"), [(0, 0), (9, 0), (10, 1), (55, 5), (99, 9), (100, 10)])
def test_noise_has_a_line_each_and_the_needle_at_its_depth(depth, line):
    lines = Noise().around("NEEDLE", 10, depth).split("\n")
    assert lines.index("NEEDLE") == line
    assert lines.count(NOISE) == 10


@pytest.mark.parametrize(
    ("size", "depth", "expected"),
    [
        (4, 0, " NEEDLE One two. Three four!"),  # the blanks at the ends are RULER's
        (4, 50, "One two. NEEDLE Three four!"),
        (4, 100, "One two. Three four! NEEDLE "),
        (5, 99, 'One two. Three four! NEEDLE "Five'),  # the cut ends a sentence too
        (6, 67, 'One two. Three four! NEEDLE "Five six?"'),
        (10, 100, 'One two. Three four! "Five six?" seven eight. One two. NEEDLE '),
        (10, 80, 'One two. Three four! "Five six?" seven eight. NEEDLE One two.'),
        (0, 50, " NEEDLE "),
    ],
)
def test_a_text_is_cut_at_words_and_takes_the_needle_between_sentences(text, size, depth, expected):
    assert Text(text).around("NEEDLE", size, depth) == expected


def test_a_text_may_be_json_lines(tmp_path, text):
    path = tmp_path / "essays.jsonl"
    records = [{"text": "One two."}, {"text": TEXT.removeprefix("One two.  ")}]
    path.write_text("".join(json.dumps(record) + "\n\n" for record in records))
    assert Text(path).words == Text(text).words


@pytest.mark.parametrize("window", [1000, 3000])
@pytest.mark.parametrize("haystack", ["noise", "text"])
def test_prompts_fill_the_window_and_no_more(model, text, window, haystack):
    tokenizer = load_hf_tokenizer(model)
    test = Needle(0, Noise() if haystack == "noise" else Text(text), "numbers")
    read = reader(tokenizer)
    size = fill(test, read, window)
    spare = len(NOISE) + 1 if haystack == "noise" else 10  # of a unit
    lengths = []
    for trial in range(30):
        question, ids = fitting(test, read, size, window, 50, trial)
        assert question.hidden["value"] in question.prompt
        lengths.append(len(ids))
    assert max(lengths) <= window - 128
    # Keys have 5 to 30 bytes and occur three times.
    assert min(lengths) > window - 128 - spare - 3 * 25


@pytest.mark.parametrize(
    ("answer", "right"),
    [(" 1234567.", True), ("it is 12345678", True), ("\n\n1234567", True), (" 123456", False),
     ("1,234,567", False), ("", False)],
)  # fmt: skip
def test_the_number_anywhere_counts(answer, right):
    hidden = {"key": "x", "value": "1234567"}
    assert Needle(0, Noise(), "numbers").is_right(answer, hidden) == right


def test_case_does_not_count():
    hidden = {"key": "x", "value": "ab12"}
    assert Needle(0, Noise(), "uuids").is_right("AB12", hidden)


def test_grid_wrong_answers_and_resume(model, tmp_path, monkeypatch, capsys, text):
    """With a model that reads the number at the first depths only."""
    tokenizer, asked = load_hf_tokenizer(model), []

    def answer(net, prompts, max_new_tokens, *, config, scale, shared):
        asked.append((scale, max_new_tokens, max(map(len, prompts))))
        texts = [tokenizer.decode(prompt, skip_special_tokens=True) for prompt in prompts]
        values = [re.search(r"is: (\d+)\.", text)[1] for text in texts]
        early = [text.index("is: ") < len(text) / 2 for text in texts]
        return [
            tokenizer(f" {value if e else 'no'}", add_special_tokens=False).input_ids
            for value, e in zip(values, early, strict=True)
        ]

    monkeypatch.setattr("e2_tools.evaluation.retrieval.grid.generate", answer)
    output, picture = tmp_path / "needle.json", tmp_path / "needle.png"
    flags = ["--windows", 700, "--trials", 2, "--heat-map", picture, "--depths"]
    run(model, output, *flags, 0)
    results = run(model, output, *flags, 0, 100, "--resume")
    assert [request[:2] for request in asked] == [(3.0, 128)] * 4
    assert max(length for *_, length in asked) <= 700 - 128
    assert results["schema"] == "e2-llm/needle/1"
    assert results["haystack"] == "noise"
    assert results["provenance"]["model_config"]["model_type"] == "llama"
    early, late = results["results"]
    assert (early["accuracy"], early["wrong"]) == (1, [])
    assert late["accuracy"] == 0
    drawn = [draw_needle(0, 700, 100, trial, "numbers") for trial in range(2)]
    assert late["wrong"] == [{"key": k, "value": v, "answer": " no"} for k, v in drawn]
    rows = [line.split() for line in capsys.readouterr().out.splitlines()][-4:]
    assert rows == [["depth", "700"], ["0", "%", "100"], ["100", "%", "0"], ["mean", "50.0"]]
    assert picture.exists()
    again = [model, output, *flags, 0, "--haystack", text, "--resume"]
    refused(capsys, "haystack was noise", run, *again, untouched=tmp_path)


def test_a_shared_prefill_changes_nothing_but_the_tokens_read(model, tmp_path, monkeypatch, capfd):
    """Over cells too, whose texts are alike up to the first needle; the bar gets to its end."""
    read = []

    def load(*given):
        net = load_model(*given)
        net.get_input_embeddings().register_forward_pre_hook(
            lambda _, inputs: read[-1].append(inputs[0].numel())
        )
        return net

    monkeypatch.setattr("e2_tools.evaluation.model.load_model", load)
    grid = ["--windows", 700, "--depths", 50, 100, "--trials", 3]
    found = []
    for flags in ([], ["--no-shared-prefill"], ["--batch-size", 3]):
        read.append([])
        found.append(run(model, tmp_path / "a.json", *grid, *flags)["results"])
        bar = capfd.readouterr().err.split("\r")[-1]
        assert "100%" in bar
        assert "4.20k/4.20k" in bar
    assert found[0] == found[1] == found[2]
    shared, whole, batches = ([n for n in counts if n > 20] for counts in read)
    assert [max(whole[:3]), max(whole[3:])] == [cell["prompt_tokens"] for cell in found[0]]
    # Of a needle in the middle two trials of three share a half, of one at the end nearly all.
    assert sum(shared) < 0.62 * sum(whole)
    assert sum(batches) < 0.75 * sum(whole)


def test_the_model_is_really_asked(model, tmp_path):
    (cell,) = run(model, tmp_path / "a.json", "--windows", 600, "--depths", 50, "--trials", 1)[
        "results"
    ]
    assert (cell["accuracy"], cell["scale"], len(cell["wrong"])) == (0, 3, 1)
    assert cell["wrong"][0]["answer"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--windows", 300], ("--windows 300", "too small")),
        (["--haystack", "nosuch.txt"], ("--haystack nosuch.txt", "cannot be read")),
        (["--haystack", "{empty}"], ("--haystack", "no words")),
        (["--haystack", "{broken}"], ("broken.jsonl: line 2", "not JSON")),
        (["--haystack", "{other}"], ("other.jsonl: line 1", "'text'")),
        (["--haystack", "{binary}"], ("binary", "UTF-8")),
    ],
)
def test_mistakes_are_one_line(model, tmp_path, capsys, flags, words):
    files = {"empty": b" \n", "broken.jsonl": b'{"text": "a"}\n{\n', "other.jsonl": b"{}\n"}
    for name, content in (files | {"binary": b"\xff\xfe"}).items():
        (tmp_path / name).write_bytes(content)
    names = {name.split(".")[0]: tmp_path / name for name in (*files, "binary")}
    flags = [str(flag).format(**names) for flag in flags]
    given = [model, tmp_path / "out.json", "--windows", 600, *flags]
    refused(capsys, words, run, *given, untouched=tmp_path)


def test_without_the_package_of_words(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wonderwords", None)
    from e2_tools.evaluation.ruler.words import word_list

    word_list.cache_clear()
    given = [model, tmp_path / "out.json", "--windows", 600]
    refused(capsys, "pip install wonderwords", run, *given, untouched=tmp_path)
