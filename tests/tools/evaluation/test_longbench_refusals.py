# SPDX-License-Identifier: Apache-2.0
"""Tasks, flags and folders that evaluate_longbench.py predict refuses with one line."""

import importlib.util
import json

import pytest

from tests.helpers.commands import refused
from tests.tools.evaluation.longbench_records import predict, record, write_tasks


@pytest.fixture
def data(tmp_path):
    return write_tasks(tmp_path / "data")


def test_refusals(model, data, tmp_path, capsys):
    def refuse(*flags, words, folder=data):
        given = [model, folder, tmp_path / "out", *flags]
        refused(capsys, words, predict, *given, untouched=tmp_path)

    refuse("--tasks", "nosuch", words=("--tasks", "'nosuch'", "qasper"))
    refuse("--tasks", "qasper", words=("qasper.jsonl", "no such file"))
    refuse("--tasks", "musique", "--e", words="LongBench-E")
    refuse(folder=tmp_path / "x", words=("no such folder", "--data-dir"))
    refuse("--e", words="no file <task>_e.jsonl")
    refuse("--chat", "template", words=("--chat", "no chat template"))
    refuse("--backend", "vllm", words=("--scale auto", "vLLM"))
    if importlib.util.find_spec("vllm") is None:
        refuse("--backend", "vllm", "--scale", 2, words=("--backend vllm", "transformers"))
    (data / "mine.jsonl").write_text("{}\n")
    refuse(words=("mine.jsonl", "'mine'"))
    (data / "mine.jsonl").unlink()
    broken = record(0)
    del broken["context"]
    (data / "trec.jsonl").write_text(json.dumps(record(0)) + "\n" + json.dumps(broken) + "\n")
    refuse(words=("trec.jsonl: line 2", "'context'"))


def test_other_settings_or_data_are_refused(model, data, tmp_path, capsys):
    output = tmp_path / "out"
    again = [model, data, output, "--tasks", "triviaqa"]
    predict(*again)
    refused(capsys, ("scale", "--output"), predict, *again, "--scale", 2, untouched=tmp_path)
    (data / "triviaqa.jsonl").write_text(json.dumps(record(1)) + "\n")
    refused(capsys, ("changed", "--output"), predict, *again, untouched=tmp_path)
    predict(model, data, output, "--tasks", "trec", "--batch-size", 2)  # another task may join
    (output / "settings.json").unlink()
    refused(capsys, "no settings.json", predict, *again, untouched=tmp_path)
