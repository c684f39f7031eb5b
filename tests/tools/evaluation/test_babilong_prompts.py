# SPDX-License-Identifier: Apache-2.0
"""BABILong's samples and scores against its own code, and what that gave as hashes.

Its code runs in the slow test, if ``E2_BABILONG`` names a checkout of booydar/babilong.
"""

import hashlib
import importlib.util
import itertools
import json
import os
import random
from pathlib import Path

import numpy as np
import pandas
import pytest

from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_tools.evaluation.babilong.facts import read_stories
from e2_tools.evaluation.babilong.prompts import PLACES, TASKS, is_right, question_of
from e2_tools.evaluation.babilong.samples import Background, Mixer, order
from tests.helpers.babilong_data import save_babi
from tests.helpers.ruler_data import prose, save_model

BABILONG = os.environ.get("E2_BABILONG")
# Of the code at 7a6efee: three prompts of each task, with contexts of 700 tokens, seed 7.
GOLDEN = {"qa1": "555d1c6050334a21", "qa2": "d3e924808784125e", "qa3": "55d493116b95ff23"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """bAbI's files, five texts to hide the facts in, one of them empty, and a tokenizer."""
    folder = tmp_path_factory.mktemp("babilong")
    texts = ["", *(prose(seed, 1500 + 400 * seed) for seed in range(4))]
    tokenizer = load_hf_tokenizer(save_model(folder / "model"))
    return save_babi(folder / "babi"), texts, tokenizer


def ours(data, task, size, seed, count):
    """Prompts and answers as the command draws them for a size of the context."""
    babi, texts, tokenizer = data
    mixer = Mixer(Background(texts, tokenizer, seed), tokenizer, seed)
    found = []
    for story in order(read_stories(babi, TASKS[task]), size, seed):
        context = mixer.context(story, size)
        if context is not None:
            prompt = question_of(TASKS[task], context, story.question)
            found.append([prompt, story.question, story.answer])
        if len(found) == count:
            break
    return found


def digest(samples):
    return hashlib.sha256(json.dumps(samples).encode()).hexdigest()[:16]


@pytest.mark.parametrize("task", TASKS)
def test_prompts_are_those_of_babilongs_code(data, task):
    assert digest(ours(data, task, 700, 7, 3)) == GOLDEN[task]


@pytest.mark.parametrize("size", [400, 700])
def test_a_context_has_its_size_and_all_facts_in_order(data, size):
    babi, texts, tokenizer = data
    mixer = Mixer(Background(texts, tokenizer, 1), tokenizer, 1)
    stories = order(read_stories(babi, TASKS["qa1"]), size, 1)
    assert len(stories) > 20
    for story in stories[:20]:
        context = mixer.context(story, size)
        assert abs(len(tokenizer(context, add_special_tokens=False).input_ids) - size) < 20
        places = [context.index(" " + fact) for fact in story.facts[:1]]
        for fact in story.facts[1:]:
            places.append(context.index(" " + fact, places[-1] + 1))
        assert places == sorted(places)


def test_facts_that_fill_the_context_alone_are_left_out(data):
    babi, texts, tokenizer = data
    (story,) = read_stories(babi, TASKS["qa3"])[4:5]
    mixer = Mixer(Background(texts, tokenizer, 1), tokenizer, 1)
    assert mixer.context(story, 100) is None
    assert mixer.context(story, 1000)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("The most recent location of Mary is Kitchen.", True),
        ("kitchen", True),
        ("the kitchen. Then the garden", True),
        ("the kitchen or the hallway", False),
        ("in the garden, from the office", False),
        ("Before the garden it was in the kitchen", True),  # the question names the garden
        ("<example> kitchen", False),
        ("", False),
    ],
)
def test_what_is_right(answer, right):
    assert is_right(answer, "kitchen", "Where was it before the garden? ") == right


def reference(name):
    """A module of BABILong's code."""
    path = Path(BABILONG) / "babilong" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"babilong_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def theirs(data, task, size, seed, count):
    """The steps of data/create_tasks.py and scripts/run_model_on_babilong.py, with seeds."""
    babi, texts, tokenizer = data
    code, prompts = reference("babilong_utils"), reference("prompts")
    file = str(babi / f"{TASKS[task].file}_train.txt")
    with pandas.option_context("future.infer_string", False):  # the code is for pandas 2
        stories = code.TaskDataset(file, max_n_facts=size // 8)
    sampler = code.SentenceSampler(
        [{"text": text} for text in texts], tokenizer=tokenizer, shuffle=True, random_seed=seed
    )
    mixed = code.NoiseInjectionDataset(
        task_dataset=stories,
        noise_sampler=sampler,
        tokenizer=tokenizer,
        sample_size=size,
        random_seed=seed,
    )
    numbers = list(range(len(mixed)))
    np.random.seed(seed)
    np.random.shuffle(numbers)
    found = []
    for number in numbers[:count]:
        sample = mixed[number]
        context, answer = tokenizer.batch_decode([sample["input_tokens"], sample["target_tokens"]])
        wording = prompts.DEFAULT_PROMPTS[task]
        prompt = prompts.get_formatted_input(
            context.strip(),
            sample["question"],
            wording["examples"],
            wording["instruction"],
            wording["post_prompt"],
        )
        found.append([prompt, sample["question"], answer])
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not BABILONG, reason="E2_BABILONG names no checkout of booydar/babilong")
def test_samples_and_scores_equal_babilongs_code(data):
    """Twenty seeds a task; the hashes; answers of all kinds."""
    assert {task: digest(theirs(data, task, 700, 7, 3)) for task in TASKS} == GOLDEN
    for task, seed in itertools.product(TASKS, range(1, 21)):
        size = (900, 1500, 2500)[seed % 3]  # larger than all facts of a story
        assert ours(data, task, size, seed, 4) == theirs(data, task, size, seed, 4)
    code, source = reference("metrics"), random.Random(0)
    words = [*PLACES, "Kitchen", "Question", "<context>", "<example>", ".", "the", "before"]
    for _ in range(2000):
        answer = " ".join(source.choices(words, k=source.randint(0, 6)))
        target, other = source.choices(PLACES, k=2)
        question = source.choice(("Where is Mary? ", f"Where was it before the {other}? "))
        for task in TASKS:
            assert code.TASK_LABELS[task] == list(PLACES)
            right = code.compare_answers(target, answer, question, code.TASK_LABELS[task])
            assert is_right(answer, target, question) == right
