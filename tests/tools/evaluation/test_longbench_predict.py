# SPDX-License-Identifier: Apache-2.0
"""LongBench end to end on a tiny model: predictions, resuming, what vLLM is asked."""

import json
import math
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from types import ModuleType, SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_llm.window import with_scale
from e2_tools.commands.evaluate_longbench import main
from e2_tools.evaluation import model as models
from e2_tools.evaluation.longbench.backends import TransformersBackend
from e2_tools.evaluation.longbench.prompts import prompt_ids
from e2_tools.evaluation.longbench.tasks import TASKS
from tests.helpers import ROOT
from tests.helpers.tiny_llama import BASE_WINDOW, EOS
from tests.tools.evaluation.longbench_records import contents, predict, record, write_tasks


@pytest.fixture
def data(tmp_path):
    return write_tasks(tmp_path / "data")


def test_predict_and_score(model, data, tmp_path, tokenizer):
    predict(model, data, tmp_path / "out")
    config = models.load_config(model)
    scales = set()
    for task, count in (("hotpotqa", 4), ("trec", 1), ("triviaqa", 1)):
        lines = (tmp_path / "out" / f"{task}.jsonl").read_text().splitlines()
        assert len(lines) == count
        for number, line in enumerate(lines):
            row = json.loads(line)
            assert list(row) == ["pred", "answers", "all_classes", "length"]
            assert (row["answers"], row["length"]) == ([f"Ann{number}"], 5000 * number)
            ids = prompt_ids(TASKS[task], record(number), tokenizer, 600)
            g = math.ceil((len(ids) + TASKS[task].max_new_tokens) / BASE_WINDOW)
            scales.add(g)
            if number in (0, 3):  # the least and the largest scale
                assert row["pred"] == greedy_text(model, with_scale(config, g, 10**4), ids, task)
    assert scales == {1, 2, 3}
    main(["score", "--predictions", str(tmp_path / "out")])
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert list(result) == ["hotpotqa", "trec", "triviaqa"]


def greedy_text(model, config, ids, task):
    """What transformers says by itself, with a model loaded at the scale in ``config``."""
    naive = LlamaForCausalLM(LlamaConfig.from_dict(config))
    naive.load_state_dict(LlamaForCausalLM.from_pretrained(model).state_dict())
    out = naive.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        max_new_tokens=TASKS[task].max_new_tokens,
        pad_token_id=EOS,
    )
    return load_hf_tokenizer(model).decode(out[0, len(ids) :], skip_special_tokens=True)


def test_batches_change_nothing(model, data, tmp_path):
    flags = ["--tasks", "hotpotqa"]
    alone = predict(model, data, tmp_path / "alone", *flags)
    assert predict(model, data, tmp_path / "batches", *flags, "--batch-size", 3) == alone


def test_questions_about_one_document_read_it_once(model, tmp_path, monkeypatch):
    """Whatever their order; the answers are those of reading all."""
    data, read = tmp_path / "data", []
    data.mkdir()
    records = [record(n % 3, input=f"Who is {n}?", _id=str(n)) for n in range(9)]
    (data / "hotpotqa.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    loaded = models.load_model

    def load(*given):
        net = loaded(*given)
        net.get_input_embeddings().register_forward_pre_hook(
            lambda _, inputs: read[-1].append(inputs[0].shape[1])
        )
        return net

    monkeypatch.setattr(models, "load_model", load)
    found = []
    for number, flags in enumerate((["--shared-prefill"], [])):
        read.append([])
        found.append(predict(model, data, tmp_path / str(number), "--scale", 3, *flags))
    assert found[0] == found[1]
    shared, whole = (sum(n for n in counts if n > 1) for counts in read)
    assert shared < 0.7 * whole


def test_a_killed_run_goes_on_and_ends_with_the_same_files(model, data, tmp_path, monkeypatch):
    flags = ["--tasks", "hotpotqa"]
    whole = predict(model, data, tmp_path / "whole", *flags, max_length=400)
    generate, asked = TransformersBackend.generate, []

    def killed_at_the_third(self, prompts, *rest):
        asked.extend(map(len, prompts))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return generate(self, prompts, *rest)

    monkeypatch.setattr(TransformersBackend, "generate", killed_at_the_third)
    output = tmp_path / "out"
    with pytest.raises(SystemExit, match="130"):
        predict(model, data, output, *flags, max_length=400)
    assert asked == sorted(asked, reverse=True)  # by length
    assert contents(output) == {}  # nothing that score would take for a whole task
    part = output / "hotpotqa.jsonl.part"
    assert len(part.read_text().splitlines()) == 2
    with part.open("a") as file:
        file.write('{"pred": "torn')
    asked.clear()
    asked.extend([0] * 3)
    assert predict(model, data, output, *flags, max_length=400) == whole
    assert len(asked) == 3 + 2
    assert not part.exists()
    asked.clear()
    predict(model, data, output, *flags, max_length=400)  # nothing is left: no model is run
    assert asked == []


def test_a_real_sigkill_costs_the_running_batch_at_most(model, data, tmp_path, monkeypatch):
    (data / "hotpotqa.jsonl").write_text("".join(json.dumps(record(n)) + "\n" for n in range(12)))
    flags = ["--tasks", "hotpotqa", "--batch-size", 2]
    whole = predict(model, data, tmp_path / "whole", *flags, max_length=200)
    output, begun = tmp_path / "out", tmp_path / "begun"
    child = textwrap.dedent(f"""
        import time
        import torch
        torch.set_num_threads(1)
        from e2_tools.commands.evaluate_longbench import main
        from e2_tools.evaluation.longbench.backends import TransformersBackend
        generate = TransformersBackend.generate
        def slowly(self, *arguments):
            with open({str(begun)!r}, "a") as file:
                file.write("x")
            time.sleep(0.3)
            return generate(self, *arguments)
        TransformersBackend.generate = slowly
        main(["predict", "--model", {str(model)!r}, "--data-dir", {str(data)!r}, "--output",
              {str(output)!r}, "--max-length", "200", "--dtype", "fp32", "--device", "cpu",
              *{[str(flag) for flag in flags]!r}])
    """)
    process = subprocess.Popen([sys.executable, "-c", child], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not begun.exists() or begun.stat().st_size < 4:  # in the midst of the fourth batch
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    kept = len((output / "hotpotqa.jsonl.part").read_text().splitlines())
    assert kept >= 2 * (begun.stat().st_size - 1) == 6
    assert contents(output) == {}
    generate, asked = TransformersBackend.generate, []

    def counted(self, prompts, *rest):
        asked.extend(prompts)
        return generate(self, prompts, *rest)

    monkeypatch.setattr(TransformersBackend, "generate", counted)
    assert predict(model, data, output, *flags, max_length=200) == whole
    assert len(asked) == 12 - kept


def test_the_summary_says_which_model_and_how_far_trained(model, data, tmp_path):
    trained = tmp_path / "e2-hf"
    shutil.copytree(model, trained)
    config = json.loads((trained / "config.json").read_text())
    config["e2_llm"] = {"base_window": BASE_WINDOW, "rope_theta": 10000.0, "iteration": 250}
    (trained / "config.json").write_text(json.dumps(config))
    predict(trained, data, tmp_path / "out", "--tasks", "trec", "--limit", 1)
    score = ["score", "--predictions", str(tmp_path / "out")]
    for label, flags in (("e2-hf", []), ("run 1", ["--label", "run 1"])):
        main([*score, *flags])
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert (summary["label"], summary["iteration"]) == (label, 250)
        assert summary["tasks"].keys() == {"trec"}
        assert summary["EN"] is summary["ZH"] is summary["All"] is None
        assert summary["predictions"]["max_length"] == 600
        assert summary["predictions"]["provenance"]["hardware"]["cores"]
        assert summary["provenance"]["model_config"] == config


def test_one_bar_over_all_tasks_which_goes_on_where_it_stopped(model, data, tmp_path, capsys):
    predict(model, data, tmp_path / "out", "--tasks", "hotpotqa")
    assert "4/4" in capsys.readouterr().err
    predict(model, data, tmp_path / "out")
    shown = capsys.readouterr().err
    assert "4/6" in shown  # 4 of hotpotqa are there
    assert "6/6" in shown


def test_longbench_e_reads_its_own_files(model, data, tmp_path):
    (data / "trec_e.jsonl").write_text(json.dumps(record(1)) + "\n")
    assert list(predict(model, data, tmp_path / "out", "--e", "--limit", 1)) == ["trec.jsonl"]
    main(["score", "--predictions", str(tmp_path / "out"), "--e"])
    assert json.loads((tmp_path / "out" / "result.json").read_text())["trec"]["0-4k"] is None


def test_vllm_gets_the_scale_and_the_prompts(model, data, tmp_path, monkeypatch):
    """With a stand-in for the package: what it is asked, not what it answers."""
    seen = {}

    class LLM:
        def __init__(self, **arguments):
            seen.update(arguments)

        def generate(self, requests, sampling, use_tqdm):
            seen["sampling"] = sampling
            answer = SimpleNamespace(outputs=[SimpleNamespace(token_ids=(EOS,))])
            return [answer for _ in requests]

    package = ModuleType("vllm")
    package.LLM, package.SamplingParams = LLM, lambda **arguments: arguments
    monkeypatch.setitem(sys.modules, "vllm", package)
    flags = ["--backend", "vllm", "--scale", 4, "--tasks", "trec"]
    files = predict(model, data, tmp_path / "out", *flags)
    assert [json.loads(line)["pred"] for line in files["trec.jsonl"].splitlines()] == [""]
    rope = seen["hf_overrides"]["rope_parameters"]
    assert (rope["rope_type"], rope["factor"], rope["rope_theta"]) == ("llama3", 4.0, 10000.0)
    assert seen["hf_overrides"]["max_position_embeddings"] == 4 * BASE_WINDOW
    assert seen["max_model_len"] >= 600 + 64
    assert seen["sampling"]["temperature"] == 0
    assert seen["sampling"]["max_tokens"] == 64
