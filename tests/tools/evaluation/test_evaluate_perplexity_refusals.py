# SPDX-License-Identifier: Apache-2.0
"""Flags, data and models that evaluate_perplexity.py refuses with one line."""

import json

import pytest
import torch
import transformers

from e2_tools.commands.evaluate_perplexity import main
from tests.helpers.commands import call, refused
from tests.helpers.word_model import (
    copy_model,
    make_documents,
    write_data,
)


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data.jsonl", make_documents(150, 70, 9))


def command(model_dir, data, tmp_path, *flags, windows=(16,), stride=8):
    stride = [] if stride is None else ["--stride", stride]
    output = tmp_path / "new" / "results.json"
    return ["--model", model_dir, "--data", data, "--output", output] + [
        *("--device", "cpu", "--windows", *windows, *stride, *flags)
    ]


@pytest.mark.parametrize(
    ("windows", "stride", "flags", "words"),
    [
        ([16], 0, [], ["--stride 0"]),
        ([16, 64], 17, [], ["--stride 17", "16"]),
        ([0], 8, [], ["--windows 0"]),
        ([-5, 16], 8, [], ["--windows -5"]),
        ([1], 1, [], ["--windows 1"]),
        ([128], None, [], ["--windows 128", "256", "--stride"]),
        ([16], 8, ["--device", "nonsense"], ["--device nonsense"]),
        ([16], 8, ["--scale", "none", "--frequencies", "yarn"], ["--frequencies yarn"]),
        ([16], 8, ["--protocol", "yarn-truncate"], ["--stride 8", "yarn-truncate"]),
        ([128], 110, ["--protocol", "longlora"], ["--windows 128", "longlora", "229 tokens"]),
        ([16], 8, ["--seed", "1"], ["--seed 1", "--sample-documents"]),
        ([16], 8, ["--sample-documents", "2", "--max-tokens", "9"], ["--max-tokens", "drop"]),
        (
            [16],
            8,
            ["--sample-documents", "3", "--min-document-tokens", "70"],
            ["2 documents have 70 tokens", "--sample-documents, now 3"],
        ),
    ],
)
def test_bad_flags(model_dir, data, tmp_path, capsys, windows, stride, flags, words):
    refused(
        capsys,
        words,
        call,
        main,
        *command(model_dir, data, tmp_path, *flags, windows=windows, stride=stride),
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_cuda_asked_but_absent(model_dir, data, tmp_path, capsys):
    flags = ["--device", "cuda"]
    refused(
        capsys, ["--device cuda", "cpu"], call, main, *command(model_dir, data, tmp_path, *flags)
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["no such file"]),
        ("", ["empty"]),
        ("\n  \n", ["empty"]),
        ('{"text": "w1 w2 w3"}\n{"text": \n', ["line 2", "not JSON"]),
        ('{"text": "w1 w2 w3"}\n\n{"body": "w1"}\n', ["line 3", "'text'", "--json-key"]),
        ('["w1 w2"]\n', ["line 1"]),
        ('{"text": 5}\n', ["line 1"]),
        ('{"text": ""}\n', ["no document", "1 tokens"]),
    ],
)
def test_bad_data(model_dir, tmp_path, capsys, content, words):
    path = tmp_path / "bad.jsonl"
    if content is not None:
        path.write_text(content)
    refused(capsys, [str(path), *words], call, main, *command(model_dir, path, tmp_path))
    assert not (tmp_path / "new").exists()


def test_bad_models(model_dir, data, tmp_path, capsys):
    missing, empty, broken, no_tokenizer = (tmp_path / str(number) for number in range(4))
    refused(capsys, [str(missing), "no such folder"], call, main, *command(missing, data, tmp_path))
    empty.mkdir()
    refused(capsys, [str(empty), "config.json"], call, main, *command(empty, data, tmp_path))
    broken.mkdir()
    (broken / "config.json").write_text("{")
    refused(capsys, ["config.json", "not JSON"], call, main, *command(broken, data, tmp_path))
    no_tokenizer.mkdir()
    (no_tokenizer / "config.json").write_text((model_dir / "config.json").read_text())
    refused(capsys, "tokenizer", call, main, *command(no_tokenizer, data, tmp_path))
    assert not (tmp_path / "new").exists()


def test_unknown_rope_type(model_dir, data, tmp_path, capsys):
    rope = {"rope_type": "spiral", "factor": 2.0, "rope_theta": 10000.0}
    model = copy_model(model_dir, tmp_path / "spiral", rope_parameters=rope)
    refused(capsys, "rope_type 'spiral'", call, main, *command(model, data, tmp_path))


def test_another_rope_type_can_only_be_kept(model_dir, data, tmp_path, capsys):
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model = copy_model(model_dir, tmp_path / "dynamic", rope_parameters=rope)
    refused(capsys, "rope_type 'dynamic'", call, main, *command(model, data, tmp_path))
    main([str(a) for a in command(model, data, tmp_path, "--scale", "none")])
    results = json.loads((tmp_path / "new" / "results.json").read_text())
    assert results["base_window"] is None
    assert results["results"][0]["scale"] is None


def test_missing_weights_are_not_made_up(model_dir, data, tmp_path, capsys):
    model = copy_model(model_dir, tmp_path / "deeper", num_hidden_layers=3)
    flags = command(model, data, tmp_path)
    refused(capsys, "weights are missing", call, main, *flags, alone=False)
    assert not (tmp_path / "new" / "results.json").exists()


def test_output_is_a_folder(model_dir, data, tmp_path, capsys):
    (tmp_path / "new" / "results.json").mkdir(parents=True)
    refused(capsys, ["is a folder", "--output"], call, main, *command(model_dir, data, tmp_path))


def test_models_of_another_kind_are_refused(model_dir, data, tmp_path, capsys):
    """Llama 4's inner model gives no hidden states where others do."""
    sizes = dict.fromkeys(("hidden_size", "intermediate_size", "intermediate_size_mlp"), 32)
    counts = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    vocabulary = json.loads((model_dir / "config.json").read_text())["vocab_size"]
    config = transformers.Llama4TextConfig(
        **sizes, **counts, head_dim=16, vocab_size=vocabulary, num_local_experts=2
    )
    folder = copy_model(model_dir, tmp_path / "llama4")
    transformers.Llama4ForCausalLM(config).save_pretrained(folder)
    words = command(folder, data, tmp_path, "--scale", "none")
    refused(capsys, "Llama4ForCausalLM", call, main, *words, alone=False)


def test_notes_name_the_command_that_takes_their_flag(model_dir, data, tmp_path, capsys):
    rope = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    folder = copy_model(model_dir, tmp_path / "linear", rope_parameters=rope, rope_scaling=rope)
    config = json.loads((folder / "config.json").read_text())
    config.pop("e2_llm")
    (folder / "config.json").write_text(json.dumps(config))
    call(main, *command(folder, data, tmp_path))
    assert "; set_window.py --base-window overrules" in capsys.readouterr().err
