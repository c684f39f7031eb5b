# SPDX-License-Identifier: Apache-2.0
"""RULER's samples and scores against NVIDIA/RULER's own scripts, and what they gave as hashes.

The scripts run in the slow test, if ``E2_RULER`` names a checkout of NVIDIA/RULER.
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2_common.errors import UserError
from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_tools.evaluation.ruler import words
from e2_tools.evaluation.ruler.counting import common_words
from e2_tools.evaluation.ruler.run import graded
from e2_tools.evaluation.ruler.score import METRICS, effective_window
from e2_tools.evaluation.ruler.sizing import Room
from e2_tools.evaluation.ruler.sources import read_sources
from e2_tools.evaluation.ruler.tasks import TASKS
from tests.helpers.commands import run_command
from tests.helpers.ruler_data import save_all

RULER = os.environ.get("E2_RULER")
WORDS = "wonderwords 3.0.1"
CHAT = ("<|user|>\n", "\n<|end|>\nIt says:")  # without a word that RULER changes for one needle
# Of the scripts at c3f5e3b: (window, seed) -> task -> hash of three samples. Long essays are slow.
GOLDEN = {
    (2048, 42): {
        "niah_single_1": "c00c33d814a445f9",
        "niah_single_2": "c436b46f4775883b",
        "niah_single_3": "b3358757d17369f2",
        "niah_multikey_1": "cd9c6751fc8c36d9",
        "niah_multikey_2": "4bbe3d8a0c3a678e",
        "niah_multikey_3": "59986c672b3bf707",
        "niah_multivalue": "cd64296221aaa17b",
        "niah_multiquery": "ce0343caccd75d95",
        "vt": "5f4b10d687faf28f",
        "cwe": "31823c9ea9ad02ac",
        "fwe": "d844cda43d5f5f69",
        "qa_1": "077339dc77a49c5c",
        "qa_2": "0a4ac8a5fc95b3ec",
    },
    (4096, 7): {
        "niah_single_1": "00086cc98c84f7c1",
        "niah_multikey_2": "f7dfc4da1a086c69",
        "niah_multikey_3": "275adb9b6340a4d0",
        "niah_multivalue": "1b41b2ae50ff83e7",
        "vt": "7316120fdc69361a",
        "cwe": "5f53c55d93e614fd",
        "fwe": "77ec934cf955bc77",
        "qa_1": "f788e40ba07c1872",
        "qa_2": "8a0927327f07c23a",
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_all(tmp_path_factory.mktemp("ruler"))


@pytest.fixture
def ours(data, monkeypatch):
    """Samples of a job as the command draws them."""
    monkeypatch.setattr("nltk.data.path", [str(data)])
    files = {"haystack": data / "PaulGrahamEssays.json", "sentences": "punkt", "trials": 3}
    files |= {name: data / f"{name}.json" for name in ("english_words", "squad", "hotpotqa")}
    sources = read_sources(argparse.Namespace(**files), list(TASKS))
    tokenizer = load_hf_tokenizer(data / "tokenizer")

    def samples(task, window, seed, count, *chat):
        room = Room(seed, window, lambda text: len(tokenizer.tokenize(text)), chat or ("", ""))
        return [list(s) for s in itertools.islice(sources.samples(task, room), count)]

    return samples


def digest(samples):
    return hashlib.sha256(json.dumps(samples).encode()).hexdigest()[:16]


@pytest.mark.skipif(words.words_version() != WORDS, reason=f"other words than those of {WORDS}")
@pytest.mark.parametrize("task", TASKS)
def test_samples_are_those_of_rulers_scripts(ours, task):
    expected = {place: tasks[task] for place, tasks in GOLDEN.items() if task in tasks}
    assert {place: digest(ours(task, *place, 3)) for place in expected} == expected


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(not RULER, reason="E2_RULER names no checkout of NVIDIA/RULER")
def test_samples_and_scores_equal_rulers_scripts(ours, data):
    """Twenty seeds a task, with and without a chat template; the hashes; answers of all kinds."""
    jobs = [
        [task, (4096, 2048)[seed % 2], seed, 2, *(CHAT if seed % 5 == 4 else ())]
        for seed in range(20)
        for task in TASKS
    ]
    jobs += [["cwe", 131072, 0, 1], ["vt", 16384, 0, 1], ["niah_multiquery", 16384, 0, 1]]
    golden = [[task, *place, 3] for place, tasks in GOLDEN.items() for task in tasks]
    answers = list(made_up_answers())
    asked = json.dumps([["scores", answers], *golden, *jobs])
    script = ("tests/helpers/ruler_reference.py", RULER, data)
    run = run_command(*script, stdin=asked, timeout=2400, NLTK_DATA=data)
    scores, *samples = json.loads(run.stdout)
    theirs = iter(samples)
    scored = [graded(metric, [(references, answer)]) for answer, references, metric in answers]
    assert [cell["score"] for cell in scored] == scores
    if words.words_version() == WORDS:
        assert [digest(next(theirs)) for _ in golden] == [GOLDEN[w, s][t] for t, w, s, _ in golden]
    else:
        theirs = itertools.islice(theirs, len(golden), None)
    wrong = [job for job, sample in zip(jobs, theirs, strict=True) if ours(*job) != sample]
    assert not wrong


def made_up_answers():
    """Answers that hold some of their references, or almost, with odd characters around."""
    source = random.Random(0)
    for metric in METRICS:
        for _ in range(300):
            known = ["".join(source.choices("abAB \t\x01\n", k=3)) for _ in range(6)]
            answer = "".join(source.choices([*known, *string.whitespace, "\x00", "\x1f", "İ"], k=6))
            yield answer, source.sample(known, source.randint(1, 4)), metric


def test_a_window_may_need_more_words_than_the_package_has():
    room = Room(0, 10**6, lambda text: text.count(" "))
    with pytest.raises(UserError, match="--windows 1000000: .* different words; .*--english-words"):
        next(common_words(room, ["a", "b"]))


@given(
    st.lists(st.text("ab- '", min_size=1, max_size=4), min_size=1, max_size=8),
    st.lists(st.text("ab- '", min_size=1, max_size=4), min_size=1, max_size=8),
)
def test_pairs_are_all_pairs_in_order(adjectives, nouns):
    """Words with hyphens and blanks, some the beginnings of others."""
    pairs = words.Pairs(adjectives, nouns)
    built = sorted({f"{a}-{n}" for a in adjectives for n in nouns})
    assert list(pairs) == built
    assert pairs[-1] == built[-1]
    assert random.Random(0).choice(pairs) == random.Random(0).choice(built)


@pytest.mark.parametrize(
    ("means", "window"),
    [
        ({}, None),
        ({4096: 85.6, 8192: 90.0}, None),  # it has to exceed
        ({4096: 85.7}, 4096),
        ({8192: 86.0, 4096: 99.0, 16384: 85.0, 32768: 95.0}, 8192),  # a later one does not count
    ],
)
def test_the_effective_window(means, window):
    assert effective_window(means) == window
