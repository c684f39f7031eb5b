# SPDX-License-Identifier: Apache-2.0
"""All files of an export and of set_window say one window; a file that cannot be read stops all."""

import itertools
import json
import os
import random

import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from e2_common.errors import UserError
from e2_llm.window_keys import REPEATED
from e2_tools.checkpoint.export import ExportOptions, export
from e2_tools.checkpoint.set_window import set_window
from e2_tools.evaluation.longbench.backends import rope_overrides
from tests.helpers.pretrained import linear, write_config
from tests.tools.checkpoint.conversions import change_config, convert

# Where vLLM and sglang look, as their sources list it (vLLM takes the smallest, sglang the first).
VLLM = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
    *("max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"),
)
SGLANG = (
    *("max_sequence_length", "seq_length", "max_seq_len", "model_max_length"),
    "max_position_embeddings",
)
NO_LIMIT = 1000000000000000019884624838656


def read(folder, name="config.json"):
    return json.loads((folder / name).read_text())


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content))


def windows(folder):
    """Every window that a server, the tokenizer or a generation takes from a folder."""
    config = read(folder)
    found = {f"vLLM: {name}": config[name] for name in VLLM if config.get(name) is not None}
    found["sglang"] = next(config[name] for name in SGLANG if config.get(name) is not None)
    if (folder / "tokenizer_config.json").exists():
        tokenizer = read(folder, "tokenizer_config.json")
        limit = tokenizer.get("model_max_length", tokenizer.get("max_len", NO_LIMIT))
        if limit < 10**9:
            found["tokenizer"] = limit
    if (folder / "tokenizer.json").exists():
        truncation = read(folder, "tokenizer.json").get("truncation")
        if truncation:
            found["truncation"] = truncation["max_length"]
    return found


def save_tokenizer(folder, limit):
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=limit)
    theirs.save_pretrained(folder)
    content = read(folder, "tokenizer.json")
    content["truncation"] = {
        **{"direction": "Right", "max_length": limit, "strategy": "LongestFirst", "stride": 0}
    }
    write(folder, "tokenizer.json", content)


def test_every_key_that_a_server_reads_is_in_the_table():
    assert set(VLLM) | set(SGLANG) <= {"max_position_embeddings", *REPEATED}


def test_what_an_evaluation_overrides_in_vllm_says_one_window(tmp_path):
    raw = {"max_position_embeddings": 64, "max_sequence_length": 64, "seq_length": 64}
    config = read(write_config(tmp_path / "model", raw))
    overrides = rope_overrides(config, 4.0)
    assert overrides.pop("rope_parameters")["factor"] == 4.0
    assert overrides == dict.fromkeys(raw, 256)


def test_set_window_changes_every_file_that_says_the_window(tmp_path):
    """Any of the keys, alone and together, with and without the files beside."""
    chosen = random.Random(0)
    for number, size in enumerate(itertools.chain(range(4), [1] * len(REPEATED))):
        keys = [REPEATED[number % len(REPEATED)], *chosen.sample(REPEATED, size)]
        raw = {"max_position_embeddings": 64, **dict.fromkeys(keys, 64), "max_length": 64}
        folder = write_config(tmp_path / str(number), raw)
        write(folder, "generation_config.json", {"max_length": 64, "top_p": 0.9})
        if number % 2:
            save_tokenizer(folder, 64)
        else:
            write(folder, "tokenizer_config.json", {"max_len": 64})
        before = {path.name: json.loads(path.read_text()) for path in folder.iterdir()}
        for window in (256, 128, 64):
            set_window(folder, window)
            found = windows(folder)
            assert set(found.values()) == {window}, found
            assert {f"vLLM: {name}" for name in keys if name in VLLM} <= found.keys()
            assert read(folder)["max_length"] == window
            assert read(folder, "generation_config.json") == {"max_length": window, "top_p": 0.9}
        del before["config.json"]
        assert before == {name: read(folder, name) for name in before}


@pytest.mark.parametrize("choice", [20, 2048, 100])
def test_what_is_no_window_stays(tmp_path, choice):
    raw = {"max_position_embeddings": 4096, "seq_length": None, "max_length": choice}
    folder = write_config(tmp_path / "model", raw, NO_LIMIT)
    write(folder, "generation_config.json", {"max_length": choice, "max_new_tokens": 4096})
    others = ("generation_config.json", "tokenizer_config.json")
    before = [(folder / name).read_bytes() for name in others]
    set_window(folder, 8192)
    assert [(folder / name).read_bytes() for name in others] == before
    assert (read(folder)["max_length"], read(folder)["seq_length"]) == (choice, None)


@pytest.mark.parametrize("kind", ["vicuna-16k", "plain"])
def test_an_export_says_one_window(sources, tmp_path, kind):
    source = tmp_path / "source"
    source.mkdir()
    for path in (sources / "llama").iterdir():
        os.link(path, source / path.name)
    os.unlink(source / "config.json")
    write(source, "config.json", read(sources / "llama"))
    native = 64
    if kind == "vicuna-16k":
        native, raw = 256, linear(4.0, rope_parameters=None, max_sequence_length=256)
        change_config(source, **raw)
    else:
        change_config(source, model_max_length=64, seq_length=64)
    change_config(source, max_length=64, original_max_position_embeddings=64)
    save_tokenizer(source, 64)
    generation = {"max_length": 64, "do_sample": True, "max_new_tokens": 7}
    write(source, "generation_config.json", generation)
    megatron = convert(source, tmp_path / "megatron")
    flags = {"load": megatron, "hf_model": source}
    for number, window in enumerate((None, 4 * native, native)):
        save = tmp_path / f"hf{number}"
        export(ExportOptions(save=save, window=window, **flags))
        served = window or native
        assert set(windows(save).values()) == {served}
        assert read(save).get("max_length", served) == served
        assert "original_max_position_embeddings" not in read(save)
        assert read(save, "generation_config.json") == generation | {"max_length": served}
        assert AutoTokenizer.from_pretrained(save).model_max_length == served
        assert GenerationConfig.from_pretrained(save).max_length == served
    # Without the source, the tokenizer that a command names follows too.
    export(ExportOptions(load=megatron, tokenizer=source, save=tmp_path / "alone", window=1024))
    assert set(windows(tmp_path / "alone").values()) == {1024}
    # And set_window takes it from there, the model card included.
    set_window(save, 512)
    assert set(windows(save).values()) == {512}
    assert "| window served now | 512 tokens |" in (save / "README.md").read_text()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json"])
def test_a_broken_file_stops_all_before_the_first_is_written(tmp_path, name):
    folder = write_config(tmp_path / "model", {"max_position_embeddings": 64}, 64)
    write(folder, "generation_config.json", {"max_length": 64})
    (folder / name).write_text("{")
    before = contents(folder)
    with pytest.raises(UserError, match=name):
        set_window(folder, 256)
    assert contents(folder) == before


def test_a_disk_that_fills_up_at_the_second_file_changes_none(tmp_path, monkeypatch):
    folder = write_config(tmp_path / "model", {"max_position_embeddings": 64}, 64)
    write(folder, "generation_config.json", {"max_length": 64})
    before = contents(folder)
    from e2_tools.checkpoint import window_files

    whole = window_files.write_json

    def full(path, content):
        if "generation" in path.name:
            raise OSError(28, "No space left on device")
        whole(path, content)

    monkeypatch.setattr(window_files, "write_json", full)
    with pytest.raises(UserError, match="No space left"):
        set_window(folder, 256)
    assert contents(folder) == before


def test_a_dry_run_writes_none(tmp_path):
    folder = write_config(tmp_path / "model", {"max_position_embeddings": 64}, 64)
    before = contents(folder)
    assert "also tokenizer_config.json" in set_window(folder, 256, dry_run=True)
    assert contents(folder) == before
