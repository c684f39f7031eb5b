# SPDX-License-Identifier: Apache-2.0
"""set_window rewrites the window and the scale in config.json and nothing else."""

import json
from pathlib import Path

from transformers import AutoConfig

from e2_llm.frequencies import spelling
from e2_tools.commands.set_window import main
from tests.helpers.commands import call, refused

CONFIG = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_attention_heads": 4,
    "max_position_embeddings": 4096,
    "rope_parameters": {"rope_type": "linear", "factor": 1.0, "rope_theta": 5000.0, "note": "ä"},
    "e2_llm": {"method": "e2", "base_window": 4096, "train_window": 4096, "max_scale": 20},
    "vocab_size": 101,
    # the form before transformers 5
    "rope_theta": 5000.0,
    "rope_scaling": {"rope_type": "linear", "factor": 1.0, "note": "ä"},
}


def write(folder: Path, **changes: object) -> Path:
    config = {name: value for name, value in (CONFIG | changes).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


def set_window(folder: Path, window: int, *flags: str) -> None:
    call(main, folder, "--window", window, *flags)


def test_two_numbers_change(tmp_path, capsys):
    path = write(tmp_path)
    set_window(tmp_path, 65536)
    assert capsys.readouterr().out == (f"{path}: window 4096 (factor 1) -> 65536 (factor 16)\n")
    change = spelling.written({"rope_type": "linear", "factor": 16.0}, 4096)
    rope = CONFIG["rope_parameters"] | change
    old_form = CONFIG["rope_scaling"] | change
    expected = CONFIG | {"max_position_embeddings": 65536, "rope_parameters": rope}
    expected |= {"rope_scaling": old_form}
    result = json.loads(path.read_text())
    assert result == expected
    assert list(result) == list(expected)  # the order too
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.rope_parameters["factor"] == 16.0
    set_window(tmp_path, 6144)
    set_window(tmp_path, 4096)
    assert json.loads(path.read_text()) == CONFIG


def test_dry_run(tmp_path, capsys):
    path = write(tmp_path)
    before = path.read_bytes()
    set_window(tmp_path, 8192, "--dry-run")
    assert "8192 (factor 2)" in capsys.readouterr().out
    assert path.read_bytes() == before


def test_beyond_the_trained_scales(tmp_path, capsys):
    write(tmp_path)
    set_window(tmp_path, 21 * 4096)
    out = capsys.readouterr().out
    assert "beyond the trained scales 1..20 (window 81920)" in out
    assert out.count("\n") == 1


def test_a_model_without_e2_block(tmp_path, capsys):
    path = write(tmp_path, e2_llm=None, rope_parameters=None, rope_scaling=None)
    set_window(tmp_path, 8192)
    set_window(tmp_path, 12288)
    rope = json.loads(path.read_text())["rope_parameters"]
    linear = {"rope_type": "linear", "factor": 3.0, "rope_theta": 5000.0}
    assert rope == spelling.written(linear, 4096)
    words = "pre-trained window of 4096"
    refused(capsys, words, set_window, tmp_path, 2048, untouched=tmp_path)


def test_refusals(tmp_path, capsys):
    def error(window: int = 8192) -> str:
        return refused(capsys, (), set_window, tmp_path, window, untouched=tmp_path)

    refused(capsys, "no such folder", set_window, tmp_path / "absent", 8192)
    assert "config.json" in error()
    (tmp_path / "config.json").write_text("{")
    assert "not JSON" in error()
    (tmp_path / "config.json").write_text("[]")
    assert "not a JSON object" in error()
    write(tmp_path, max_position_embeddings=None)
    assert "max_position_embeddings" in error()
    write(tmp_path, rope_parameters={"rope_type": "yarn", "factor": 2.0})
    assert "yarn" in error()
    write(tmp_path)
    assert "trained window of 4096" in error(2048)
    assert "--window 0" in error(0)
    write(tmp_path, e2_llm={"method": "linear", "base_window": 4096})
    assert "one factor (linear)" in error()
    write(tmp_path, e2_llm={"method": "e2"})
    assert "base_window" in error()
