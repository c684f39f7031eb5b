# SPDX-License-Identifier: Apache-2.0
"""What an export carries over of a tokenizer, what it never runs, and what it says it left out."""

import builtins
import json

import pytest

from e2_tools.checkpoint.export import ExportOptions, export
from tests.tools.checkpoint.conversions import change_config
from tests.tools.checkpoint.megatron_save import (
    PADDED_VOCAB,
    QUIET,
    VOCAB,
    save_megatron,
    save_tokenizer,
    tiny_llama,
)

pytestmark = QUIET


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_megatron(tmp_path_factory.mktemp("run"), tiny_llama())


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch):
    def ask(*_):
        raise AssertionError("somebody was asked")

    monkeypatch.setattr(builtins, "input", ask)


def add_code(folder, touched):
    """Make the tokenizer one of the folder's own code, which says that it was run."""
    code = f"open({str(touched)!r}, 'w')\nclass Own:\n    pass\n"
    (folder / "own.py").write_text(code)
    config = {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def test_a_tokenizer_with_code_is_carried_over_and_not_run(run, tmp_path, capsys):
    tokenizer = save_tokenizer(tmp_path / "tokenizer", VOCAB)
    add_code(tokenizer, tmp_path / "touched")
    export(ExportOptions(load=run, save=tmp_path / "hf", tokenizer=tokenizer))
    out = capsys.readouterr().out
    assert f"note: {tokenizer}: its tokenizer has code of its own, which is never run" in out
    assert (tmp_path / "hf" / "tokenizer.json").exists()
    assert not (tmp_path / "hf" / "own.py").exists()
    assert not (tmp_path / "touched").exists()


def test_all_files_are_carried_over(run, tmp_path):
    tokenizer = save_tokenizer(tmp_path / "tokenizer", VOCAB)
    (tokenizer / "tekken.json").write_text("{}")
    (tokenizer / "additional_chat_templates").mkdir()
    (tokenizer / "additional_chat_templates" / "tool_use.jinja").write_text("{{ messages }}")
    export(ExportOptions(load=run, save=tmp_path / "hf", tokenizer=tokenizer))
    for name in ("tekken.json", "additional_chat_templates/tool_use.jinja", "tokenizer.json"):
        assert (tmp_path / "hf" / name).read_bytes() == (tokenizer / name).read_bytes()


def test_a_folder_of_tekken_alone(run, tmp_path, capsys):
    (tmp_path / "tekken.json").write_text("{}")
    export(ExportOptions(load=run, save=tmp_path / "hf", tokenizer=tmp_path))
    assert (tmp_path / "hf" / "tekken.json").exists()
    assert "tekken.json was carried over, and not read" in capsys.readouterr().out


def test_what_is_left_out_without_the_model_is_said(run, tmp_path, capsys):
    tokenizer = save_tokenizer(tmp_path / "tokenizer", VOCAB - 11)
    load = save_megatron(tmp_path / "run", tiny_llama(), vocab_size=None)
    export(ExportOptions(load=load, save=tmp_path / "hf", tokenizer=tokenizer))
    out = capsys.readouterr().out
    assert f"the tokenizer's {VOCAB - 11} tokens; the last {PADDED_VOCAB - VOCAB + 11}" in out
    assert "bos_token_id stay empty: the tokenizer names none" in out
    export(ExportOptions(load=run, save=tmp_path / "plain"))
    out = capsys.readouterr().out
    assert "bos_token_id and eos_token_id stay empty: no tokenizer was read" in out
    assert "left out as padding" not in out
    tiny_llama(bos_token_id=7).save_pretrained(tmp_path / "base")
    change_config(tmp_path / "base", pad_token_id=VOCAB)
    export(ExportOptions(load=run, save=tmp_path / "with", hf_model=tmp_path / "base"))
    out = capsys.readouterr().out
    assert "stay empty" not in out
    assert f"pad_token_id {VOCAB} is beyond the {VOCAB} tokens and left out" in out
    config = json.loads((tmp_path / "with" / "config.json").read_text())
    assert (config["bos_token_id"], config["pad_token_id"]) == (7, None)
