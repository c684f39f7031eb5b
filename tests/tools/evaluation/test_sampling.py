# SPDX-License-Identifier: Apache-2.0
"""Documents drawn with a seed, and the interval over documents."""

import hashlib
import json
import math

import numpy as np
import pytest

from e2_tools.evaluation.perplexity.bootstrap import interval_over_documents
from e2_tools.evaluation.perplexity.documents import Text
from e2_tools.evaluation.perplexity.sampling import draw_sample
from tests.helpers.commands import refused
from tests.helpers.word_model import by_window, evaluate, make_documents, write_data

LENGTHS = [5 + 7 * (number % 11) for number in range(60)]


def texts(count):
    for number in range(count):
        text = f"text {number}"
        yield Text(number + 1, text, hashlib.sha256(text.encode()).hexdigest())


def by_hand(lines, count, seed):
    """The rule of docs/perplexity.md, from texts by line number."""

    def key(line):
        text_sha256 = hashlib.sha256(lines[line].encode()).hexdigest()
        return hashlib.sha256(f"{seed}:{text_sha256}".encode()).hexdigest()

    return sorted(sorted(lines, key=key)[:count])


@pytest.mark.parametrize("seed", [0, 1])
def test_the_command_draws_by_the_documented_rule(model_dir, tmp_path, seed):
    documents = make_documents(*LENGTHS)
    data = write_data(tmp_path / "data.jsonl", documents)
    flags = ["--windows", 16, "--stride", 8, "--sample-documents", 10, "--seed", seed]
    flags += ["--min-document-tokens", 30]
    results = evaluate(model_dir, data, tmp_path / "r.json", *flags)
    long = {line: " ".join(words) for line, words in enumerate(documents, 1) if len(words) >= 30}
    expected = by_hand(long, 10, seed)
    assert results["documents"]["line"] == expected
    assert results["documents"]["tokens"] == [len(documents[line - 1]) + 1 for line in expected]
    assert results["documents"]["sha256"] == [
        hashlib.sha256(long[line].encode()).hexdigest() for line in expected
    ]
    assert (results["sample"]["documents"], results["sample"]["seed"]) == (10, seed)
    alone = write_data(tmp_path / "alone.jsonl", [documents[line - 1] for line in expected])
    again = evaluate(model_dir, alone, tmp_path / "a.json", "--windows", 16, "--stride", 8)
    assert by_window(again)[16]["documents"] == by_window(results)[16]["documents"]


def test_neither_order_nor_other_texts_change_the_choice():
    everything = list(texts(200))
    chosen = draw_sample(everything, 20, 3, lambda text: text)
    assert chosen == draw_sample(reversed(everything), 20, 3, lambda text: text)
    fewer = [text for text in everything if text in chosen or text.line % 3]
    assert chosen == draw_sample(fewer, 20, 3, lambda text: text)
    assert {text.line for text in chosen} == set(
        by_hand({text.line: text.text for text in everything}, 20, 3)
    )


def test_few_texts_are_tokenized_and_few_are_held():
    asked = []
    draw_sample(texts(5000), 10, 0, lambda text: asked.append(text) or text)
    assert len(asked) < 10 * (1 + math.log(500)) * 1.5  # the records of a random order: 72


def test_every_text_is_drawn_equally_often():
    counts = np.zeros(20)
    for seed in range(2000):
        for text in draw_sample(texts(20), 5, seed, lambda text: text):
            counts[text.line - 1] += 1
    expected = 2000 * 5 / 20
    chi_square = ((counts - expected) ** 2 / expected).sum() / (1 - 5 / 20)
    assert chi_square < 43.8  # 0.999 quantile at 19 degrees of freedom


def test_equal_texts_are_different_documents():
    twice = [text._replace(line=text.line + 100 * copy) for copy in (0, 1) for text in texts(3)]
    chosen = draw_sample(twice, 6, 0, lambda text: text)
    assert [text.line for text in chosen] == [1, 2, 3, 101, 102, 103]


def test_resume_refuses_other_documents(model_dir, tmp_path, capsys):
    data = write_data(tmp_path / "data.jsonl", make_documents(*[40] * 12))
    flags = ["--windows", 16, "--stride", 8, "--sample-documents", 3]
    evaluate(model_dir, data, tmp_path / "r.json", *flags)
    again = [model_dir, data, tmp_path / "r.json", *flags, "--seed", 1, "--resume"]
    error = refused(capsys, "documents differ", evaluate, *again, untouched=tmp_path, alone=False)
    assert len(error) < 300


# --- the interval ---

RANDOM = np.random.default_rng(0)
COUNTS = RANDOM.integers(50, 400, 25)
SUMS = COUNTS * RANDOM.normal(3.0, 0.4, 25)


def test_the_interval_equals_a_naive_loop():
    random = np.random.default_rng(1)
    means = []
    for _ in range(10_000):
        drawn = [int(random.integers(25)) for _ in range(25)]
        means.append(sum(SUMS[i] for i in drawn) / sum(COUNTS[i] for i in drawn))
    means.sort()
    assert interval_over_documents(SUMS, COUNTS) == pytest.approx(
        (means[250], means[9750]), abs=0.02 * (means[9750] - means[250])
    )


def test_the_interval_equals_scipys():
    stats = pytest.importorskip("scipy.stats", reason="scipy: pip install -r constraints.txt")

    def ratio(sums, counts, axis):
        return sums.sum(axis) / counts.sum(axis)

    theirs = stats.bootstrap(
        (SUMS, COUNTS), ratio, paired=True, method="percentile", n_resamples=10_000, rng=1
    ).confidence_interval
    width = theirs.high - theirs.low
    assert interval_over_documents(SUMS, COUNTS) == pytest.approx(tuple(theirs), abs=0.02 * width)


def test_documents_without_tokens_take_no_part():
    assert interval_over_documents([*SUMS, 0.0], [*COUNTS, 0]) == interval_over_documents(
        SUMS, COUNTS
    )
    assert interval_over_documents([3.0, 0.0], [1, 0]) is None


def test_provenance_and_lists_on_one_line(model_dir, tmp_path):
    data = write_data(tmp_path / "data.jsonl", make_documents(20, 30, 40))
    label = ["--label", "[\n 1,\n 2]"]
    results = evaluate(model_dir, data, tmp_path / "r.json", "--windows", 16, "--stride", 8, *label)
    assert results["label"] == "[\n 1,\n 2]"
    assert results["provenance"]["model_config"]["vocab_size"] == 64
    assert results["provenance"]["versions"]["torch"]
    assert "versions" not in results
    text = (tmp_path / "r.json").read_text()
    assert '"count": [ 20, 30, 40 ]' in text
    assert json.loads(text) == results
