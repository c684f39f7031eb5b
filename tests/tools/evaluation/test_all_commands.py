# SPDX-License-Identifier: Apache-2.0
"""What holds of every evaluation: what it goes on with, and where its prompts end."""

import importlib
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, processors

from e2_common.hf_tokenizer import load_hf_tokenizer, prompt_ids
from e2_tools import commands
from e2_tools.checkpoint.which_weights import PART, PARTS, weights_of
from e2_tools.evaluation.longbench.backends import TransformersBackend
from tests.helpers.babilong_data import save_babi
from tests.helpers.commands import refused
from tests.helpers.ruler_data import prose, save_model
from tests.tools.evaluation.longbench_records import write_tasks
from tests.tools.evaluation.test_evaluate_mrcr import ROWS

RESUMES = ["--resume"]
# Command -> its flags, and how it is told to go on: LongBench always does.
GOING_ON = {
    "babilong": (["--windows", 1500, "--trials", 1, "--tasks", "qa1"], RESUMES),
    "longbench": (["--max-length", 300, "--limit", 1, "--tasks", "trec"], []),
    "mrcr": (["--windows", 1024, "--trials", 1], RESUMES),
    "needle": (["--windows", 512, "--trials", 1, "--depths", 0], RESUMES),
    "passkey": (["--windows", 512, "--trials", 1, "--depths", 0], RESUMES),
    "perplexity": (["--windows", 64, "--stride", 32, "--max-document-tokens", 90], RESUMES),
    "recall": (["--windows", 256, "--trials", 1, "--depths", 50], RESUMES),
    "ruler": (["--windows", 512, "--trials", 1, "--tasks", "niah_single_1"], RESUMES),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "books.jsonl").write_text(json.dumps({"text": prose(0, 3000)}) + "\n")
    (folder / "mrcr.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    save_babi(folder / "babi")
    write_tasks(folder / "longbench")
    return {
        "babilong": ["--babi", folder / "babi", "--haystack", folder / "books.jsonl"],
        "longbench": ["--data-dir", folder / "longbench"],
        "mrcr": ["--data", folder / "mrcr.jsonl"],
        "perplexity": ["--data", folder / "books.jsonl"],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("other_weights"))


@pytest.fixture
def prompts(folder, monkeypatch):
    """What is asked; nothing is read, and every answer is one word."""
    word, asked = load_hf_tokenizer(folder)("the", add_special_tokens=False).input_ids, []

    def answer(prompts):
        asked.extend(prompts)
        return [word] * len(prompts)

    told = "e2_tools.evaluation.retrieval.grid.generate"
    monkeypatch.setattr(told, lambda net, prompts, *_, **__: answer(prompts))
    monkeypatch.setattr(TransformersBackend, "generate", lambda self, prompts, *_: answer(prompts))
    return asked


@pytest.fixture
def own_model(folder, tmp_path):
    """A copy to be changed."""
    return shutil.copytree(folder, tmp_path / "model")


def change_weights(model):
    path = model / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.mlp.up_proj.weight"] += 0.01  # less than any training changes
    save_file(tensors, path, metadata={"format": "pt"})


def change_rope(model):
    path = model / "config.json"
    config = json.loads(path.read_text())
    config["rope_parameters"] = {**config["rope_parameters"], "rope_type": "linear", "factor": 2.0}
    path.write_text(json.dumps(config | {"rope_scaling": None}))


def command(name, model, data, folder):
    """Return how an evaluation is run with more flags, and what it writes."""
    main = importlib.import_module(f"e2_tools.commands.evaluate_{name}").main
    output = folder / ("out" if name == "longbench" else "out.json")
    words = ["predict"] if name == "longbench" else []
    words += ["--model", model, "--output", output, "--device", "cpu"]
    words += [*data.get(name, []), *GOING_ON[name][0]]
    return lambda *more: main([str(word) for word in (*words, *more)]), output


def end_texts(model):
    """Let its tokenizer put an EOS behind a text, as some fine-tunings leave it."""
    path = model / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    bos, eos = "<s>", "</s>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        special_tokens=[(word, tokenizer.token_to_id(word)) for word in (bos, eos)],
    )
    tokenizer.save(str(path))


def test_every_command_is_tried():
    found = {
        path.stem.removeprefix("evaluate_")
        for folder in commands.__path__
        for path in Path(folder).glob("evaluate_*.py")
    }
    assert found == GOING_ON.keys()


@pytest.mark.parametrize("name", GOING_ON)
def test_only_the_same_model_goes_on(name, own_model, prompts, data, tmp_path, capsys):
    run, output = command(name, own_model, data, tmp_path)
    on = GOING_ON[name][1]

    def written():
        files = [output] if output.is_file() else sorted(output.iterdir())
        return {path: path.read_bytes() for path in files}

    for scale, change, told in (
        ("auto", change_weights, "weights"),
        ("none", change_rope, "own_rope"),
    ):
        run("--scale", scale)
        run("--scale", scale, *on)
        before = written()
        change(own_model)
        refused(capsys, told, run, "--scale", scale, *on)
        assert written() == before
        shutil.rmtree(output) if output.is_dir() else output.unlink()


def test_every_megabyte_of_large_files_counts(tmp_path):
    path, size = tmp_path / "model.safetensors", 3 * PARTS * PART
    assert weights_of(tmp_path) is None
    path.write_bytes(bytes(size))
    found = [weights_of(tmp_path)]
    for place in range(0, size, size // 4):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"1" * (2 * PART + 1))
        found.append(weights_of(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"no matter")
    assert weights_of(tmp_path) == found[-1]
    path.rename(tmp_path / "model-00001-of-00001.safetensors")
    assert weights_of(tmp_path) == found[-1]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("name", [name for name in GOING_ON if name != "perplexity"])
def test_no_model_answers_behind_the_end_of_a_text(name, own_model, prompts, data, tmp_path):
    run, output = command(name, own_model, data, tmp_path)
    run()
    expected = list(map(list, prompts))
    shutil.rmtree(output) if output.is_dir() else output.unlink()
    prompts.clear()
    end_texts(own_model)
    ids = load_hf_tokenizer(own_model)("the").input_ids
    assert len(ids) == 3  # the first and the last are the tokenizer's
    run()
    assert list(map(list, prompts)) == expected
    assert expected
    assert all(prompt[0] == ids[0] and prompt[-1] != ids[-1] for prompt in expected)


@pytest.mark.parametrize(
    ("single", "found"),
    [("$A", [2]), ("<s> $A", [0, 2]), ("$A </s>", [2]), ("<s> $A </s> </s>", [0, 2])],
)
def test_prompts_keep_what_stands_before_them(folder, tmp_path, single, found):
    model = shutil.copytree(folder, tmp_path / "model")
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    special = [(word, tokenizer.token_to_id(word)) for word in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    tokenizer.save(str(model / "tokenizer.json"))
    loaded = load_hf_tokenizer(model)
    plain = loaded("the", add_special_tokens=False).input_ids
    ids = prompt_ids(loaded, "the")
    assert ids == [special[0][1]] * (len(found) - 1) + plain
    assert prompt_ids(loaded, "the", special=False) == plain
    assert prompt_ids(loaded, "") == ids[:-1]


@pytest.mark.parametrize("name", [n for n in GOING_ON if n not in ("perplexity", "longbench")])
def test_a_heat_map_is_a_png(name, own_model, prompts, data, tmp_path, capsys):
    run, output = command(name, own_model, data, tmp_path)
    refused(capsys, ("--heat-map", "a.jpg", ".png"), run, "--heat-map", tmp_path / "a.jpg")
    assert not prompts
    assert not output.exists()
