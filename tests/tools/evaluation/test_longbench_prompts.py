# SPDX-License-Identifier: Apache-2.0
"""Prompts of LongBench: the template, what a cut leaves, chats, where an answer stops."""

import pytest

from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_tools.evaluation.longbench.prompts import prompt_ids, stop_ids
from e2_tools.evaluation.longbench.tasks import TASKS
from tests.helpers.tiny_llama import BOS, EOS
from tests.tools.evaluation.longbench_records import record


def test_a_short_prompt_is_the_template_filled_in(tokenizer):
    ids = prompt_ids(TASKS["trec"], record(0, context="C {x}", input="I"), tokenizer, 1000)
    assert ids[0] == BOS
    assert tokenizer.decode(ids[1:]) == (
        "Please determine the type of the question below. "
        "Here are some examples of questions.\n\nC {x}\nI"
    )


@pytest.mark.parametrize("max_length", [100, 101])
def test_a_long_prompt_loses_its_middle(tokenizer, max_length):
    task = TASKS["hotpotqa"]
    whole = prompt_ids(task, record(3), tokenizer, 10**6)
    ids = prompt_ids(task, record(3), tokenizer, max_length)
    assert ids == whole[:50] + whole[-50:]  # one BOS, which the 50 first include
    exact = prompt_ids(task, record(3), tokenizer, len(whole))
    assert exact == whole


def test_the_template_comes_after_truncation_and_not_around_examples_and_code(tokenizer):
    cut = tokenizer.decode(prompt_ids(TASKS["hotpotqa"], record(3), tokenizer, 100)[1:])
    chat = prompt_ids(TASKS["hotpotqa"], record(3), tokenizer, 100, "llama2")
    assert chat[0] == BOS
    assert tokenizer.decode(chat[1:]) == f"[INST]{cut}[/INST]"
    for task in TASKS.values():
        plain = prompt_ids(task, record(1), tokenizer, 3000)
        same = prompt_ids(task, record(1), tokenizer, 3000, "llama2") == plain
        few_shot_or_code = ("trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p")
        assert same == (task.name in few_shot_or_code)


def test_the_tokenizers_own_template_brings_its_own_bos(model):
    tokenizer = load_hf_tokenizer(model)
    tokenizer.chat_template = (
        "<s>{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<bot>{% endif %}"
    )
    ids = prompt_ids(TASKS["hotpotqa"], record(0), tokenizer, 3000, "template")
    assert ids.count(BOS) == 1
    assert ids[0] == BOS
    assert tokenizer.decode(ids[1:]).startswith("<user>Answer")
    assert tokenizer.decode(ids).endswith("Answer:<bot>")


def test_only_samsum_stops_at_a_newline(tokenizer):
    (newline,) = tokenizer("\n", add_special_tokens=False).input_ids
    assert set(stop_ids(TASKS["samsum"], tokenizer)) == {newline, EOS}
    assert all(
        stop_ids(task, tokenizer) is None for task in TASKS.values() if task.name != "samsum"
    )
