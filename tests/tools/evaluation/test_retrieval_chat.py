# SPDX-License-Identifier: Apache-2.0
"""--chat of passkey and needle: the template around the question, the answer's beginning behind."""

import json
import re

import pytest

from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_tools.commands import evaluate_needle, evaluate_passkey, plot_results, report
from tests.helpers.commands import refused
from tests.helpers.ruler_data import save_model

TESTS = {
    "passkey": (evaluate_passkey.main, "There is an important info", " The pass key is", 10),
    "needle": (evaluate_needle.main, "A special magic number", " The special magic number", 128),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("chat_model"))


@pytest.fixture
def asked(monkeypatch, folder):
    prompts = []

    def answer(net, batch, max_new_tokens, *, config, scale, shared):
        prompts.extend(batch)
        return [[5]] * len(batch)

    monkeypatch.setattr("e2_tools.evaluation.retrieval.grid.generate", answer)
    return prompts


def run(main, folder, output, *flags):
    arguments = ["--model", folder, "--output", output, "--device", "cpu", "--windows", 1000]
    main([str(each) for each in [*arguments, "--depths", 40, "--trials", 2, *flags]])
    return json.loads(output.read_text())


@pytest.mark.parametrize("test", TESTS)
def test_the_template_is_transformers_own(folder, tmp_path, asked, test):
    main, beginning, prefix, new = TESTS[test]
    tokenizer = load_hf_tokenizer(folder)
    results = run(main, folder, tmp_path / "a.json", "--chat")
    assert results["chat"] is True
    assert len(asked) == 2
    for ids in asked:
        question, _, rest = tokenizer.decode(ids).rpartition(prefix)
        question = question[question.index(beginning) :].split("?")[0] + "?"
        ids_of_message = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
        )
        behind = tokenizer(prefix + rest, add_special_tokens=False).input_ids
        assert ids == [*ids_of_message, *behind]
        assert 1000 - new - 150 < len(ids) <= 1000 - new


@pytest.mark.parametrize("test", TESTS)
def test_answers_with_and_without_it_are_not_mixed(folder, tmp_path, asked, capsys, test):
    main, path = TESTS[test][0], tmp_path / "a.json"
    plain = run(main, folder, path)
    refused(
        capsys, "chat was False and now is True", run, *[main, folder, path, "--resume"], "--chat"
    )
    # a file of a version that had no such flag
    del plain["chat"]
    path.write_text(json.dumps(plain))
    run(main, folder, path, "--resume")
    assert len(asked) == 2
    run(main, folder, tmp_path / "b.json", "--chat")
    plot_results.main([str(path), str(tmp_path / "b.json"), "--output", str(tmp_path / "p.png")])
    assert "differ in chat" in capsys.readouterr().err
    report.main([str(tmp_path)])
    assert re.search("<td>yes</td>", (tmp_path / "report.html").read_text())


@pytest.mark.parametrize("test", TESTS)
def test_a_tokenizer_without_a_template(model, tmp_path, capsys, test):
    given = [TESTS[test][0], model, tmp_path / "a.json", "--chat"]
    refused(capsys, ("--chat", "no chat template"), run, *given, untouched=tmp_path)
