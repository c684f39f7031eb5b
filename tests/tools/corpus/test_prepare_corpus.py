# SPDX-License-Identifier: Apache-2.0
"""prepare_corpus.py: each release's own format, conversations, and records that are broken."""

import gzip
import json
import re
import subprocess
import sys

import pytest
from transformers import AutoTokenizer

from e2_tools.commands.prepare_corpus import main
from e2_tools.commands.preprocess_data import main as preprocess
from tests.helpers import ROOT
from tests.helpers.commands import refused
from tests.helpers.tiny_corpus import (
    HUGGING_FACE,
    SPEECH,
    arguments,
    read_documents,
    save_hugging_face,
)

CHAT = [
    {"from": "human", "value": "Who spoke at Gettysburg? "},
    {"from": "gpt", "value": "Lincoln.\n\nOn 19 November 1863 🎩"},
    {"from": "human", "value": "How long?"},
    {"from": "gpt", "value": " Two minutes."},
]
# transformers marks what stands within {% generation %} as the assistant's.
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<eos>{% endgeneration %}{% else %}{{ m.content }}{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}<assistant>\n{% endif %}"
)
ENDS = "<eos>{% endgeneration %}"
ROLES = {"human": "user", "gpt": "assistant"}


def prepared(folder, corpus, content, *options, name="in.jsonl"):
    """Run the command on a file of this content (records, or bytes); return what it wrote."""
    if not isinstance(content, bytes):
        content = "".join(json.dumps(record) + "\n" for record in content).encode()
    (folder / name).write_bytes(content)
    output = folder / "out.jsonl"
    main([corpus, "--input", str(folder / name), "--output", str(output), *options])
    return [json.loads(line) for line in output.read_bytes().splitlines()]


def pieces(record):
    return [record["text"][begin:end] for begin, end in record["loss_spans"]]


def test_pile_by_subset(tmp_path):
    names = ["ArXiv", "Github", "PubMed Central", "Github"]
    records = [
        {"text": f"text {number}", "meta": {"pile_set_name": name}}
        for number, name in enumerate(names)
    ]
    assert prepared(tmp_path, "pile", records) == records
    kept = prepared(tmp_path, "pile", records, "--subsets", "ArXiv", "PubMed Central")
    assert kept == [records[0], records[2]]
    assert prepared(tmp_path, "pile", records, "--exclude-subsets", "Github") == kept


def test_vicuna_conversation(tmp_path):
    (record,) = prepared(tmp_path, "sharegpt", [{"id": "a", "conversations": CHAT}])
    assert record.keys() == {"text"}
    options = ("--loss-on", "assistant")
    (masked,) = prepared(tmp_path, "sharegpt", [{"id": "a", "conversations": CHAT}], *options)
    assert masked["text"] == record["text"]
    assert record["text"].startswith("A chat between a curious user")
    assert " USER: Who spoke at Gettysburg?  ASSISTANT: Lincoln." in record["text"]
    assert "🎩</s>USER: How long? ASSISTANT:  Two minutes.</s>" in record["text"]
    assert pieces(masked) == [CHAT[1]["value"] + "</s>", " Two minutes.</s>"]


def test_messages_and_a_system_turn_in_chatml(tmp_path):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "unanswered"},
    ]
    options = ("--loss-on", "assistant", "--chat-template", "chatml")
    (record,) = prepared(tmp_path, "sharegpt", [{"messages": turns}], *options)
    assert record["text"] == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n"
    )
    assert pieces(record) == ["Hello<|im_end|>"]


@pytest.mark.parametrize("marks", ["inside", "line break too", "none"])
def test_a_tokenizers_template_marks_what_transformers_marks(marks, tmp_path):
    folder = save_hugging_face(tmp_path / "tokenizer", "<eos>")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # The line break behind an answer is learnt if the template says so.
    if marks == "line break too":
        assert TEMPLATE.count(ENDS) == 1
        tokenizer.chat_template = TEMPLATE.replace(ENDS, "<eos>\n{% endgeneration %}")
    else:
        tokenizer.chat_template = TEMPLATE
    messages = [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in CHAT]
    theirs = tokenizer.apply_chat_template(
        messages, return_assistant_tokens_mask=True, return_dict=True
    )
    if marks == "none":
        tokenizer.chat_template = re.sub(r"{% (end)?generation %}", "", TEMPLATE)
    tokenizer.save_pretrained(folder)
    options = ("--loss-on", "assistant", "--tokenizer-model", folder)
    (record,) = prepared(tmp_path, "sharegpt", [{"conversations": CHAT}], *options)
    ours = tokenizer(record["text"], return_offsets_mapping=True)
    assert ours["input_ids"] == theirs["input_ids"]
    spans = record["loss_spans"]
    mask = [
        int(any(b < end and e > begin for begin, end in spans)) for b, e in ours["offset_mapping"]
    ]
    assert mask == theirs["assistant_masks"]
    assert 0 < sum(mask) < len(mask)


def test_line_breaks_that_alone_end_an_answer_are_learnt(tmp_path):
    folder = save_hugging_face(tmp_path / "tokenizer", "<eos>")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenizer.save_pretrained(folder)
    options = ("--loss-on", "assistant", "--tokenizer-model", folder)
    (record,) = prepared(tmp_path, "sharegpt", [{"conversations": CHAT}], *options)
    assert pieces(record) == [turn["value"] + "\n\n" for turn in CHAT[1::2]]


def test_a_template_that_rewrites_the_past_is_refused(tmp_path, capfd):
    folder = save_hugging_face(tmp_path / "tokenizer", "<eos>")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    template = re.sub(r"{% (end)?generation %}", "", TEMPLATE)
    tokenizer.chat_template = "{{ messages | length }}" + template
    tokenizer.save_pretrained(folder)
    (tmp_path / "in.json").write_text(json.dumps([{"conversations": CHAT}]))
    command = ["sharegpt", "--input", str(tmp_path / "in.json"), "--tokenizer-model", folder]
    command += ["--output", str(tmp_path / "out.jsonl")]
    refused(capfd, ["--tokenizer-model", "changes"], main, command, untouched=tmp_path)


def test_a_json_array_is_read_as_json_reads_it(tmp_path, monkeypatch):
    from e2_tools.corpus.prepare import array

    monkeypatch.setattr(array, "_CHUNK", 7)  # cuts characters, numbers and escapes in two
    listed = [
        {"conversations": [*CHAT[:1], {"from": "gpt", "value": f"{n} é🎩\\"}]} for n in range(30)
    ]
    for indent in (None, 2):
        content = json.dumps(listed, indent=indent, ensure_ascii=False).encode()
        found = prepared(tmp_path, "sharegpt", content, name="in.json")
        assert len(found) == 30
        assert all(f"{n} é🎩\\</s>" in record["text"] for n, record in enumerate(found))


def test_longsum(tmp_path):
    record = {
        "article_id": "1",
        "article_text": ["we study long windows .", "they work ."],
        "abstract_text": ["<S> windows are long . </S>", "<S> they work . </S>"],
        "section_names": ["introduction"],
        "sections": [["we study long windows ."]],
    }
    options = ("--loss-on", "assistant")
    (found,) = prepared(tmp_path, "longsum", [record], *options, name="train.txt")
    summary = "windows are long . they work ."
    assert found["text"] == f"we study long windows . they work .\n\nSummary: {summary}"
    assert pieces(found) == [summary]
    options = ("--loss-on", "assistant", "--template", "{article} TL;DR {summary} END")
    (found,) = prepared(tmp_path, "longsum", [record], *options)
    assert found["text"].endswith("they work . TL;DR windows are long . they work . END")
    assert pieces(found) == [summary]


def test_text_files(tmp_path):
    head, tail = (f"*** {w} OF THE PROJECT GUTENBERG EBOOK A ***" for w in ("START", "END"))
    book = f"Title\n{head}\n\nFour score\nand seven\n\n{tail}\nlicence".encode()
    assert prepared(tmp_path, "text", book, name="a.txt") == [{"text": book.decode()}]
    found = prepared(tmp_path, "text", book, "--strip-gutenberg", name="a.txt")
    assert found == [{"text": "Four score\nand seven"}]


def test_only_the_answers_count_after_preprocessing(tmp_path):
    prepared(tmp_path, "sharegpt", [{"conversations": CHAT}] * 3, "--loss-on", "assistant")
    kind = HUGGING_FACE, save_hugging_face(tmp_path / "tokenizer", "<eos>")
    command = arguments(str(tmp_path / "out.jsonl"), tmp_path / "chats", kind)
    preprocess([*command, "--loss-mask-key", "loss_spans"])
    tokenizer = AutoTokenizer.from_pretrained(kind[1])
    tokens = read_documents(tmp_path / "chats_text_document")
    masks = read_documents(tmp_path / "chats_text_document_loss_mask")
    for (ids,), (mask,) in zip(tokens, masks, strict=True):
        learnt = [token for token, counts in zip(ids, mask, strict=True) if counts]
        # A token that begins before an answer is learnt whole: spaces, here.
        answers = "".join(turn["value"].strip() + "</s>" for turn in CHAT[1::2])
        assert tokenizer.decode(learnt).replace(" ", "") == answers.replace(" ", "")


BROKEN = {
    "not JSON": b'{"conversations": [',
    "not UTF-8": b'{"conversations": "\xff"}',
    "not an object": b"[1]\n3",
    "no list under conversations": b'{"conversations": {}}',
    "no question with an answer": b'{"conversations": [{"from": "human", "value": "Hi"}]}',
    "a turn of nobody known": b'{"conversations": [{"from": "x", "value": "Hi"}]}',
    "a turn without text": b'{"conversations": [{"from": "human", "value": null}]}',
    "do not alternate": b'{"conversations": [{"from": "human", "value": "a"}, '
    b'{"from": "human", "value": "b"}, {"from": "gpt", "value": "c"}]}',
    "an unpaired surrogate": b'{"conversations": [{"from": "human", "value": "\\ud800"}, '
    b'{"from": "gpt", "value": "c"}]}',
}


def test_broken_records_are_counted_and_the_good_ones_kept(tmp_path, capfd):
    good = json.dumps({"conversations": CHAT}).encode()
    lines = [good, *(line for each in BROKEN.values() for line in each.split(b"\n")), good]
    assert len(prepared(tmp_path, "sharegpt", b"\n".join(lines))) == 2
    captured = capfd.readouterr()
    for reason in BROKEN:
        assert reason in captured.out
    assert "12 records read, 2 written" in captured.out
    assert "2 broken: not an object" in captured.out
    assert f"skipped {tmp_path}/in.jsonl, line 2: not JSON" in captured.err


@pytest.mark.parametrize("reason", BROKEN)
def test_on_error_stop_names_the_first(reason, tmp_path, capfd):
    good = json.dumps({"conversations": CHAT}).encode()
    (tmp_path / "in.jsonl").write_bytes(good + b"\n" + BROKEN[reason].split(b"\n")[0] + b"\n")
    command = ["sharegpt", "--input", str(tmp_path / "in.jsonl")]
    command += ["--output", str(tmp_path / "out.jsonl"), "--on-error", "stop"]
    refused(capfd, ["in.jsonl, line 2: ", reason], main, command, untouched=tmp_path)


def test_damaged_files_stop(tmp_path, capfd):
    records = "".join(json.dumps({"text": f"{SPEECH} {n}"}) + "\n" for n in range(5000)).encode()
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(records)[:-100])
    (tmp_path / "cut.json").write_text('[{"text": "a"}, {"text": "b"')
    (tmp_path / "bad.jsonl").write_text("{}\n")
    for corpus, name in (("text", "cut.jsonl.gz"), ("text", "cut.json"), ("pile", "bad.jsonl")):
        command = [corpus, "--input", str(tmp_path / name), "--output", str(tmp_path / "o.jsonl")]
        words = name if "cut" in name else "no good record among 1"
        refused(capfd, words, main, command, untouched=tmp_path, alone=False)


def test_a_killed_run_leaves_nothing_at_the_output(tmp_path):
    command = [sys.executable, ROOT / "tools" / "prepare_corpus.py", "text", "--input", "-"]
    command += ["--output", tmp_path / "o.jsonl"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdin.write(b'{"text": "a"}\n' * 1000)
        run.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(2)
        run.terminate()
        assert run.wait(20) == 130
    assert list(tmp_path.iterdir()) == []
