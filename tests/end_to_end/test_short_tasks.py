# SPDX-License-Identifier: Apache-2.0
"""examples/evaluation/short.sh: two models' short tasks in one table, and what it refuses.

lm-eval itself runs in the slow test, on local task files; the others have what it writes.
"""

import json
import math
import shutil
import statistics
import sys
from importlib.util import find_spec

import pytest

from e2_tools.commands.report import main as report
from examples.evaluation.short_table import main
from tests.helpers.commands import refused, refused_by, run_command
from tests.helpers.tiny_llama import make_tiny_llama

SCORES = {
    "piqa": {"acc": [1, 0, 1, 1, 0, 1], "acc_norm": [1, 1, 0, 1, 1, 1]},
    "nq_open": {"exact_match": [0, 0, 1, 0]},
}
AFTER = {
    "piqa": {"acc": [1, 1, 1, 1, 0, 0], "acc_norm": [0, 1, 0, 1, 1, 0]},
    "nq_open": {"exact_match": [0, 1, 1, 0]},
}


def stderr(values):
    return statistics.stdev(values) / math.sqrt(len(values))


def write(folder, scores, date="2026-01-01T00-00-00.0", samples=True, **more):
    """What lm-eval writes: questions in any order."""
    folder = folder / "__the__model"
    folder.mkdir(parents=True, exist_ok=True)
    content = {name: {} for name in ("results", "n-samples", "n-shot", "higher_is_better")}
    content |= {"versions": {}, "task_hashes": {}, "config": {"limit": None}}
    content |= {"lm_eval_version": "0.4.13", "model_name": "the/model", "max_length": 256}
    for task, metrics in scores.items():
        told = {"alias": task}
        for metric, values in metrics.items():
            told[f"{metric},none"] = statistics.fmean(values)
            told[f"{metric}_stderr,none"] = stderr(values)
        count = len(values)
        content["results"][task] = told
        content["n-samples"][task] = {"original": count, "effective": count}
        content["n-shot"][task] = 0
        content["task_hashes"][task] = "0" * 64
        rows = [
            {"doc_id": n, "doc_hash": f"h{n}", "filter": "none"}
            | {metric: values[n] for metric, values in metrics.items()}
            for n in range(count)
        ]
        if samples:
            text = "".join(json.dumps(row) + "\n" for row in reversed(rows))
            (folder / f"samples_{task}_{date}.jsonl").write_text(text)
    for name, value in more.items():
        content[name.replace("_", "-") if name.startswith("n_") else name] = value
    (folder / f"results_{date}.json").write_text(json.dumps(content))


def table(tmp_path, capsys):
    flags = ["--before", tmp_path / "before", "--after", tmp_path / "after"]
    main([*map(str, flags), "--output", str(tmp_path / "out" / "short.json")])
    content = json.loads((tmp_path / "out" / "short.json").read_text())
    return content, capsys.readouterr().out


def test_differences_are_paired_and_on_the_page(tmp_path, capsys):
    write(tmp_path / "before", AFTER, date="2025-12-31T23-59-59.9")  # an older run
    write(tmp_path / "before", SCORES)
    write(tmp_path / "after", AFTER)
    content, out = table(tmp_path, capsys)
    assert [(row["task"], row["metric"]) for row in content["results"]] == [
        *(("piqa", "acc"), ("piqa", "acc_norm"), ("nq_open", "exact_match"))
    ]
    for row in content["results"]:
        old, new = (each[row["task"]][row["metric"]] for each in (SCORES, AFTER))
        assert (row["before"], row["after"]) == (statistics.fmean(old), statistics.fmean(new))
        assert row["questions"] == len(old)
        assert row["paired"]
        error = stderr([b - a for a, b in zip(old, new, strict=True)])
        assert row["difference_stderr"] == pytest.approx(error)
        assert row["difference_stderr"] < math.hypot(stderr(old), stderr(new))
    mean = content["mean"]
    assert mean["tasks"] == 2
    assert mean["before"] == pytest.approx((4 / 6 + 1 / 4) / 2)
    assert mean["difference"] == pytest.approx((0 + 1 / 4) / 2)
    errors = [content["results"][n]["difference_stderr"] for n in (0, 2)]
    assert mean["difference_stderr"] == pytest.approx(math.hypot(*errors) / 2)
    assert "25.00 ± 25.00" in out
    assert "+25.00 ± 25.00" in out
    assert "not paired" not in out

    report([str(tmp_path / "out")])
    page = (tmp_path / "out" / "report.html").read_text()
    for words in ("Short tasks", "piqa acc_norm", "+25.00 ± 25.00", "mean of 2", "lm-eval 0.4.13"):
        assert words in page


def test_without_questions_errors_are_those_of_two_samples(tmp_path, capsys):
    for folder, scores in (("before", SCORES), ("after", AFTER)):
        write(tmp_path / folder, scores, samples=False)
    content, out = table(tmp_path, capsys)
    for row in content["results"]:
        assert not row["paired"]
        assert row["difference_stderr"] == pytest.approx(
            math.hypot(row["before_stderr"], row["after_stderr"])
        )
    assert "not paired" in out


def test_a_metric_that_is_no_mean_is_not_paired(tmp_path, capsys):
    """Such as a perplexity, or an F1 over all questions; and without an error there is none."""
    for folder, scores in (("before", SCORES), ("after", AFTER)):
        told = {"nq_open": {"exact_match,none": 0.9, "exact_match_stderr,none": "N/A"}}
        write(tmp_path / folder, {"nq_open": scores["nq_open"]}, results=told)
    content, out = table(tmp_path, capsys)
    (row,) = content["results"]
    assert (row["paired"], row["difference_stderr"], row["before_stderr"]) == (False, None, None)
    assert "90.00 " in out


def test_a_perplexity_is_no_percent(tmp_path, capsys):
    for folder in ("before", "after"):
        told = {"wiki": {"word_perplexity,none": 40.25, "word_perplexity_stderr,none": "N/A"}}
        lower = {"higher_is_better": {"wiki": {"word_perplexity": False}}}
        scores = {"wiki": {"word_perplexity": [1, 2]}}
        write(tmp_path / folder, scores, results=told, samples=False, **lower)
    content, out = table(tmp_path, capsys)
    assert content["mean"] is None
    assert "mean" not in out
    assert "40.25 " in out
    assert "4025" not in out


def test_the_command_and_the_scale_of_each_are_written_down(tmp_path, capsys):
    for folder, scores in (("before", SCORES), ("after", AFTER)):
        make_tiny_llama(tmp_path / folder / "model")
        write(tmp_path / folder, scores, model_name=str(tmp_path / folder / "model"))
    (tmp_path / "after" / "command").write_text("python -m lm_eval run --model hf\n")
    content, _ = table(tmp_path, capsys)
    assert (content["before"]["command"], content["before"]["scale"]) == (None, 1.0)
    assert content["after"]["command"] == "python -m lm_eval run --model hf"


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({"scores": {"piqa": SCORES["piqa"]}}, ["n-samples of nq_open", "not asked the same"]),
        ({"task_hashes": {"piqa": "1" * 64, "nq_open": "0" * 64}}, ["task_hashes of piqa"]),
        ({"n_shot": {"piqa": 5, "nq_open": 0}}, ["n-shot of piqa"]),
        ({"lm_eval_version": "0.4.12"}, ["lm_eval_version"]),
        ({"results": {}}, ["has no acc of piqa"]),
        ({"config": None}, ["no whole result", "--log_samples"]),
        (None, ["holds no results_*.json"]),
    ],
)
def test_runs_that_do_not_compare(tmp_path, capsys, after, words):
    write(tmp_path / "before", SCORES)
    if after:
        write(tmp_path / "after", **({"scores": SCORES} | after))
    refused(capsys, words, table, tmp_path, capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model", "x"], ["--base is missing"]),
        (["--base", "x"], ["--model is missing"]),
        (["--base", "no", "--model", "no"], ["no: no Hugging Face model"]),
        (["--base", "a,b", "--model", "no"], ["a,b", ", or ="]),
        (["--base", "x", "--model", "y", "--dtype", "fp8"], ["--dtype fp8"]),
        (["--base", "x", "--model", "y", "--tasks", " "], ["--tasks"]),
    ],
)
def test_what_the_script_refuses(flags, words):
    refused_by(run_command("examples/evaluation/short.sh", *flags, code=None), words)


def test_an_interpreter_without_lm_eval(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    flags = ["--base", tmp_path, "--model", tmp_path]
    run = run_command("examples/evaluation/short.sh", *flags, code=None, PYTHON="false")
    refused_by(run, ["pip install lm_eval"])


def test_the_commands():
    flags = ["--base", "a", "--model", "b", "--window", 4096, "--limit", 9, "--dry-run"]
    told = run_command("examples/evaluation/short.sh", *flags).stdout
    assert told.count("-m lm_eval run") == 2
    assert "piqa\\,wsc273\\,hellaswag\\,social_iqa\\,winogrande\\,race\\,nq_open" in told
    assert "set_window.py runs/short/b/served-4096 --window 4096" in told
    for words in ("pretrained=a", "pretrained=runs/short/b/served-4096", "--num_fewshot 0"):
        assert words in told


CHOICE = """
task: tiny_choice
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {file}}}}}
output_type: multiple_choice
validation_split: validation
doc_to_text: "{{{{question}}}}"
doc_to_target: label
doc_to_choice: "{{{{choices}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(find_spec, ("lm_eval", "datasets", "dill", "evaluate"))),
    reason="lm-eval whole: pip install lm_eval==0.4.13",
)
def test_lm_eval_on_local_task_files(tmp_path):
    """Without a network, before and after at two windows; the second time nothing is asked."""
    make_tiny_llama(tmp_path / "model")
    shutil.copytree(tmp_path / "model", tmp_path / "base")
    questions = [
        {"question": f"Is {n} even?", "choices": ["yes", "no"], "label": n % 2} for n in range(40)
    ]
    data = tmp_path / "tasks" / "questions.jsonl"
    data.parent.mkdir()
    data.write_text("".join(json.dumps(question) + "\n" for question in questions))
    (tmp_path / "tasks" / "choice.yaml").write_text(CHOICE.format(file=data))
    flags = ["--base", tmp_path / "base", "--model", tmp_path / "model", "--window", 1024]
    flags += ["--tasks", "tiny_choice", "--task-files", data.parent, "--out", tmp_path / "out"]
    flags += ["--dtype", "fp32", "--device", "cpu"]
    offline = {"HF_HUB_OFFLINE": 1, "HF_DATASETS_OFFLINE": 1, "HF_HOME": tmp_path / "home"}

    def run():
        words = ("examples/evaluation/short.sh", *flags)
        return run_command(*words, timeout=600, PYTHON=sys.executable, **offline)

    first = run().stdout
    content = json.loads((tmp_path / "out" / "short.json").read_text())
    (row,) = content["results"]
    assert (row["task"], row["questions"], row["paired"]) == ("tiny_choice", 40, True)
    assert content["before"]["max_length"] < content["after"]["max_length"] == 1024
    for each in ("before", "after"):
        share = row[each]
        # lm-eval's own error, of a share
        assert row[f"{each}_stderr"] == pytest.approx(math.sqrt(share * (1 - share) / 39))
    assert first.rstrip().splitlines()[-1].startswith("0 examples before a question")
    again = run().stdout
    assert again.count("asked before") == 2
    assert again.splitlines()[-1] == first.splitlines()[-1]
