# SPDX-License-Identifier: Apache-2.0
"""Conversations in the forms of the hub: what stands in a record is written, refused or counted."""

import argparse
import json
import random

import pytest
from transformers import AutoTokenizer

from e2_tools.commands.prepare_corpus import main
from e2_tools.corpus.prepare.corpora import UNUSED, sharegpt
from e2_tools.corpus.prepare.records import Broken
from tests.helpers.commands import refused
from tests.helpers.tiny_corpus import save_hugging_face
from tests.tools.corpus.test_prepare_corpus import pieces, prepared

ASK, ANSWER = {"role": "user", "content": "Ask"}, {"role": "assistant", "content": "Say"}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
CALL = {"type": "function", "function": {"name": "look", "arguments": '{"at": "x"}'}}
LOSS = ("--loss-on", "assistant")
# A template with a form for everything, each answer ended.
TEMPLATE = """
{%- if tools %}tools {{ tools | tojson }};{% endif -%}
{%- for m in messages -%}
<{{ m.role }}>
{%- if m.reasoning_content %}[{{ m.reasoning_content }}]{% endif -%}
{{ m.content }}
{%- for call in m.tool_calls or [] %}call {{ call.function | tojson }}{% endfor -%}
{%- if m.role == "assistant" %}<eos>{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<assistant>{% endif -%}"""


def template_of(folder, template):
    """A tokenizer's folder with this chat template."""
    path = save_hugging_face(folder, "<eos>")
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(path)
    return path


def shown(capfd):
    return capfd.readouterr().out


@pytest.mark.parametrize(
    "record",
    [
        {"conversation": [ASK, ANSWER], "model": None},
        {"data": ["Ask", "Say"]},
        {"conversations": None, "messages": [ASK, ANSWER]},
        {"conversations": [], "messages": [ASK, ANSWER]},
        {"messages": [turn | {"from": None, "value": None} for turn in (ASK, ANSWER)]},
        {"messages": [turn | {"name": None, "tool_calls": []} for turn in (ASK, ANSWER)]},
        {"messages": [{"role": "system", "content": ""}, ASK, ANSWER]},
        {"messages": [ASK, ANSWER], "system": " ", "tools": "[]"},
        {"messages": [ASK, {"role": "assistant", "content": [{"type": "text", "text": "Say"}]}]},
        {"conversations": [{"from": "human", "value": "Ask"}, {"from": "gpt", "value": "Say"}]},
    ],
)
def test_everyday_forms_of_one_conversation(tmp_path, capfd, record):
    (plain,) = prepared(tmp_path, "sharegpt", [{"messages": [ASK, ANSWER]}], *LOSS)
    assert prepared(tmp_path, "sharegpt", [record], *LOSS) == [plain]
    assert "not used" not in shown(capfd)


@pytest.mark.parametrize("key", ["system", "system_prompt", "a turn", "developer"])
def test_a_system_prompt_wherever_it_stands(tmp_path, key):
    record = {"messages": [ASK, ANSWER]}
    if key.startswith("system"):
        record[key] = "In rhyme."
    else:
        role = {"a turn": "system"}.get(key, key)
        record["messages"] = [{"role": role, "content": "In rhyme."}, ASK, ANSWER]
    (found,) = prepared(tmp_path, "sharegpt", [record])
    assert found["text"] == "In rhyme. USER: Ask ASSISTANT: Say</s>"


def test_two_system_prompts_are_refused_unless_alike(tmp_path, capfd):
    turns = [{"role": "system", "content": "A"}, ASK, ANSWER]
    records = [{"system": system, "messages": turns} for system in ("A", "B")]
    records.append({"system": "A", "system_prompt": "B", "messages": turns})
    assert len(prepared(tmp_path, "sharegpt", records)) == 1
    said = shown(capfd)
    assert "1 broken: a system turn, and another system prompt beside the turns" in said
    assert "1 broken: system and system_prompt differ" in said


@pytest.mark.parametrize(("key", "no", "yes"), [("weight", 0, 1), ("train", False, True)])
def test_answers_that_are_not_to_be_learnt(tmp_path, capfd, key, no, yes):
    turns = [ASK, ANSWER | {key: no}, ASK, {"role": "assistant", "content": "Learn", key: yes}]
    (found,) = prepared(tmp_path, "sharegpt", [{"messages": turns}], *LOSS)
    assert pieces(found) == ["Learn</s>"]
    assert "not used" not in shown(capfd)
    prepared(tmp_path, "sharegpt", [{"messages": turns}])
    assert "not used: 'weight or train of 0' 1" in shown(capfd)
    odd = [{"messages": [ASK, ANSWER | {key: 0.5}]}, {"messages": [ASK, ANSWER]}]
    assert len(prepared(tmp_path, "sharegpt", odd)) == 1
    assert "1 broken: weight or train of an answer that is neither 0 nor 1" in shown(capfd)


@pytest.mark.parametrize("form", ["vicuna", "chatml"])
@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"tools": TOOLS, "messages": [ASK, ANSWER]}, "tools"),
        ({"tools": json.dumps(TOOLS), "messages": [ASK, ANSWER]}, "tools"),
        ({"messages": [ASK, ANSWER | {"tool_calls": [CALL]}]}, "tool_calls"),
        ({"messages": [ASK, ANSWER | {"reasoning_content": "Hm"}]}, "reasoning_content"),
        ({"messages": [ASK, ANSWER, {"role": "tool", "content": "4"}, ANSWER]}, "a tool's turn"),
    ],
)
def test_what_a_plain_form_cannot_say_is_refused(tmp_path, capfd, form, record, reason):
    (tmp_path / "in.jsonl").write_text(json.dumps(record))
    command = ["sharegpt", "--input", str(tmp_path / "in.jsonl"), "--chat-template", form]
    command += ["--output", str(tmp_path / "out.jsonl"), "--on-error", "stop"]
    culprits = [f"line 1: {reason}, for which --chat-template {form} has no form"]
    refused(capfd, culprits, main, command, untouched=tmp_path)


def test_a_tokenizers_template_writes_tools_calls_and_reasoning(tmp_path, capfd):
    folder = template_of(tmp_path / "all", TEMPLATE)
    call = ANSWER | {"content": "", "tool_calls": [CALL], "reasoning_content": "Hm"}
    turns = [ASK, call, {"role": "tool", "content": "4"}, ANSWER]
    record = {"tools": json.dumps(TOOLS), "messages": turns}
    options = (*LOSS, "--tokenizer-model", folder)
    (found,) = prepared(tmp_path, "sharegpt", [record], *options)
    assert "not used" not in shown(capfd)
    # Arguments as an object, which is how templates are given them.
    parsed = json.loads(json.dumps(turns))
    parsed[1]["tool_calls"][0]["function"]["arguments"] = {"at": "x"}
    theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        parsed, tools=TOOLS, tokenize=False
    )
    assert found["text"] == theirs
    function = '{"name": "look", "arguments": {"at": "x"}}'
    assert pieces(found) == [f"[Hm]call {function}<eos>", "Say<eos>"]


def test_what_a_tokenizers_template_passes_over_is_refused(tmp_path, capfd):
    content_only = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<eos>{% endfor %}"
    folder = template_of(tmp_path / "plain", content_only)
    records = [
        {"tools": TOOLS, "messages": [ASK, ANSWER]},
        {"messages": [ASK, ANSWER | {"reasoning_content": "Hm"}]},
        {"messages": [ASK, ANSWER | {"tool_calls": [CALL]}]},
        {"messages": [ASK | {"name": "Ann"}, ANSWER]},
    ]
    (found,) = prepared(tmp_path, "sharegpt", records, "--tokenizer-model", folder)
    assert found["text"] == "<user>Ask<eos><assistant>Say<eos>"
    said = shown(capfd)
    for key in ("tools", "reasoning_content", "tool_calls"):
        assert f"1 broken: {key}, which the tokenizer's chat template does not write" in said
    assert "not used: 'name' 1" in said


def test_a_summary_under_the_names_of_the_hub(tmp_path):
    record = {"article": "we study .", "abstract": "it works .", "article_text": None}
    (found,) = prepared(tmp_path, "longsum", [record], *LOSS)
    assert found["text"] == "we study .\n\nSummary: it works ."
    assert pieces(found) == ["it works ."]


def test_meta_as_a_text(tmp_path):
    metas = ["{'pile_set_name': 'ArXiv'}", '{"pile_set_name": "Github"}']
    records = [{"text": meta, "meta": meta} for meta in metas]
    found = prepared(tmp_path, "pile", records, "--subsets", "ArXiv")
    assert found == [{"text": metas[0], "meta": {"pile_set_name": "ArXiv"}}]


def test_parquet_is_read_as_json_lines_are(tmp_path, capfd):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    records = [
        {"id": f"{n}", "system": "In rhyme." if n % 2 else None, "messages": [ASK, ANSWER]}
        for n in range(600)
    ]
    lines = prepared(tmp_path, "sharegpt", records)
    parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "in.parquet")
    output = tmp_path / "rows.jsonl"
    capfd.readouterr()
    main(["sharegpt", "--input", str(tmp_path / "in.parquet"), "--output", str(output)])
    assert [json.loads(line) for line in output.read_bytes().splitlines()] == lines
    assert "600 records read, 600 written" in shown(capfd)
    broken = [{"messages": None, "id": "a"}, {"messages": [ASK, ANSWER], "id": "b"}]
    parquet.write_table(pyarrow.Table.from_pylist(broken), tmp_path / "in.parquet")
    main(["sharegpt", "--input", str(tmp_path / "in.parquet"), "--output", str(output)])
    assert f"{tmp_path}/in.parquet, row 1: no list" in capfd.readouterr().err


ROLES = {"user": ["user", "human"], "assistant": ["assistant", "gpt"], "system": ["system"]}


class Made:
    """A conversation by chance in a form by chance.

    Attributes:
        record: as it would stand in a file.
        words: of each piece a word that occurs once, and the key that names the piece.
        dropped: the words of turns that are no part of a question and its answer.
        breaking: reasons for which any template's record is refused.
        refusable: keys for which only some templates have a form.
    """

    def __init__(self, draw: random.Random, number: int):
        self.draw, self.number = draw, number
        self.words: dict[str, str] = {}
        self.dropped: set[str] = set()
        self.breaking: set[str] = set()
        self.refusable: set[str] = set()
        self.form = draw.choice(["from", "role", "both", "texts"])
        roles = ["user", "assistant"] * draw.randint(1, 3)
        if self.form != "texts" and self.chance(0.1):
            roles.insert(0, "assistant")
        if self.chance(0.2):
            roles.append("user")
        said = [(role, self.word("content")) for role in roles]
        if roles[0] == "assistant":
            self.dropped.add(said[0][1])
        if roles[-1] == "user":
            self.dropped.add(said[-1][1])
        turns = [self.turn(role, word) for role, word in said]
        self.record = {draw.choice(["conversations", "messages", "conversation", "data"]): turns}
        self.add_what_stands_beside(turns)

    def chance(self, share):
        return self.draw.random() < share

    def word(self, key):
        word = f"w{self.number}x{len(self.words)}z"
        self.words[word] = key
        return word

    def turn(self, role, word):
        if self.form == "texts":
            return word
        name = self.draw.choice(ROLES[role])
        turn = {"from": name, "value": word}
        if self.form != "from":
            turn = {"role": name, "content": word}
        if self.form == "both":
            turn |= {"from": None, "value": None, "tool_calls": []}
        if role == "assistant" and word not in self.dropped:
            self.add_what_is_said_too(turn)
        return turn

    def add_what_is_said_too(self, turn):
        if self.chance(0.05):
            function = {"name": self.word("tool_calls"), "arguments": "{}"}
            turn["tool_calls"] = [{"type": "function", "function": function}]
            self.refusable.add("tool_calls")
        if self.chance(0.05):
            turn["reasoning_content"] = self.word("reasoning_content")
            self.refusable.add("reasoning_content")
        if self.chance(0.1):
            turn["model"] = self.word("model")
        if self.chance(0.1):
            turn["weight"] = self.draw.choice([0, 1, 1, 2])
            if turn["weight"] == 2:
                self.breaking.add("weight or train")

    def add_what_stands_beside(self, turns):
        for key in ("id", "source"):
            if self.chance(0.3):
                self.record[key] = self.word(key)
        systems = [key for key in ("system", "system_prompt") if self.chance(0.2)]
        for key in systems:
            self.record[key] = self.word("system")
        if len(systems) == 2:
            self.breaking.add("system and system_prompt differ")
        if self.form != "texts" and self.chance(0.2):
            turns.insert(0, self.turn("system", self.word("system")))
            if systems:
                self.breaking.add("a system turn, and another system prompt")
        if self.chance(0.1):
            tools = [{"type": "function", "function": {"name": self.word("tools")}}]
            self.record["tools"] = self.draw.choice([tools, json.dumps(tools)])
            self.refusable.add("tools")
        if self.form != "texts" and self.chance(0.05):
            turns.insert(self.draw.randrange(len(turns)), {"from": "narrator", "value": "x"})
            self.breaking.add("a turn of nobody known")
        for key in ("conversations", "messages", "tools", "chosen"):
            if key not in self.record and self.chance(0.1):
                self.record[key] = self.draw.choice([None, []])


def converted(convert, record):
    """What is written of a record, or why nothing is."""
    try:
        return convert(json.loads(json.dumps(record)))
    except Broken as broken:
        return str(broken)


# A template is rendered once for each answer and each key, which takes its time.
@pytest.mark.parametrize(
    ("form", "count"), [("vicuna", 2000), ("chatml", 2000), ("tokenizer", 400)]
)
def test_nothing_vanishes_of_mixed_records(tmp_path, capfd, form, count):
    folder = template_of(tmp_path / "all", TEMPLATE) if form == "tokenizer" else None
    flags = ["--tokenizer-model", folder] if folder else ["--chat-template", form]
    draw = random.Random(form)
    made = [Made(draw, number) for number in range(count)]
    convert = sharegpt(
        argparse.Namespace(tokenizer_model=folder, chat_template=form, loss_on="assistant")
    )
    good = 0
    for each in made:
        reasons = each.breaking if folder else each.breaking | each.refusable
        found = converted(convert, each.record)
        if isinstance(found, str):
            assert any(reason in found for reason in reasons), (found, each.record)
            continue
        assert not reasons, each.record
        good += 1
        for word, key in each.words.items():
            if word in each.dropped:
                assert word not in found["text"], each.record
            else:
                assert (word in found["text"]) != bool(found[UNUSED][key]), (key, each.record)
        left = sum(count for why, count in found[UNUSED].items() if " " in why)
        assert left == len(each.dropped), each.record
    assert 0.5 * count < good < 0.95 * count
    prepared(tmp_path, "sharegpt", [each.record for each in made], *flags)
    said = shown(capfd)
    assert f"{count:,} records read, {good:,} written" in said
    broken = [line.split()[0] for line in said.splitlines() if " broken: " in line]
    assert sum(int(number.replace(",", "")) for number in broken) == count - good
