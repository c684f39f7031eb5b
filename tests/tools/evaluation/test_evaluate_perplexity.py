# SPDX-License-Identifier: Apache-2.0
"""Perplexity: that the number is right, at every scale, and what is written of it."""

import json
import math
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from e2_llm.window import with_scale
from e2_tools.checkpoint.set_window import set_window
from e2_tools.evaluation.model import DTYPES, load_config, load_model
from e2_tools.evaluation.perplexity.results import SCHEMA
from tests.helpers.commands import refused
from tests.helpers.word_model import (
    BASE_WINDOW,
    at_scale,
    by_window,
    copy_model,
    evaluate,
    ids_of,
    make_documents,
    naive_nll,
    write_data,
)
from transformers_patches.scale import set_scale


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data.jsonl", make_documents(150, 70, 9))


# --- the number ---


@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_equals_a_naive_loop(model_dir, data, tmp_path, batch_size):
    windows, stride = (16, 48), 7
    flags = ["--windows", *windows, "--stride", stride]
    if batch_size:
        flags += ["--batch-size", batch_size]
    results = evaluate(model_dir, data, tmp_path / "out" / "results.json", *flags)

    assert results["schema"] == SCHEMA
    assert results["data"]["documents"] == 3
    assert results["data"]["tokens"] == 151 + 71 + 10  # with a BOS, without an EOS
    assert results["bos"] is True
    assert results["base_window"] == BASE_WINDOW
    assert results["full_context_from"] == 48 - 7
    for window, scale in zip(windows, (1.0, 2.0), strict=True):
        scaled = at_scale(model_dir, scale, window)
        everything, full = [], []
        for words in make_documents(150, 70, 9):
            ids = [0, *ids_of(words)]
            nll = naive_nll(scaled, ids, window, stride)
            everything += nll.values()
            full += [value for index, value in nll.items() if index >= 41]
        row = by_window(results)[window]
        assert row["scale"] == scale
        assert row["tokens"] == len(everything) == 150 + 70 + 9
        assert row["tokens_full_context"] == len(full) == (151 - 41) + (71 - 41)
        assert row["nll"] == pytest.approx(sum(everything) / len(everything), rel=1e-6)
        assert row["perplexity"] == pytest.approx(math.exp(row["nll"]))
        assert row["perplexity_full_context"] == pytest.approx(
            math.exp(sum(full) / len(full)), rel=1e-6
        )


def test_logits_in_chunks_change_nothing(model_dir, data, tmp_path, monkeypatch):
    flags = ["--windows", 40, "--stride", 8]
    whole = evaluate(model_dir, data, tmp_path / "whole.json", *flags)
    monkeypatch.setattr("e2_tools.evaluation.perplexity.scoring.LOGITS_AT_ONCE", 64 * 5)
    chunked = evaluate(model_dir, data, tmp_path / "chunked.json", *flags)
    assert by_window(chunked)[40]["nll"] == pytest.approx(by_window(whole)[40]["nll"], rel=1e-6)


def test_every_token_weighs_the_same(model_dir, tmp_path):
    """Two documents: the mean over tokens, not the mean of the documents' perplexities."""
    documents = make_documents(120, 12)
    flags = ["--windows", 20, "--stride", 5, "--no-bos"]
    rows = []
    for name, part in (("long", documents[:1]), ("short", documents[1:]), ("both", documents)):
        data = write_data(tmp_path / f"{name}.jsonl", part)
        results = evaluate(model_dir, data, tmp_path / f"{name}.json", *flags)
        rows.append(by_window(results)[20])
    long, short, both = rows
    assert (long["tokens"], short["tokens"], both["tokens"]) == (119, 11, 130)
    weighted = (119 * long["nll"] + 11 * short["nll"]) / 130
    assert both["nll"] == pytest.approx(weighted, rel=1e-6)
    assert abs(both["nll"] - (long["nll"] + short["nll"]) / 2) > 1e-3
    assert short["perplexity_full_context"] is None
    assert short["tokens_full_context"] == 0


def test_bf16_runs_and_is_close(model_dir, data, tmp_path):
    flags = ["--windows", 32, "--stride", 16]
    fp32 = by_window(evaluate(model_dir, data, tmp_path / "a.json", *flags))[32]
    bf16 = by_window(evaluate(model_dir, data, tmp_path / "b.json", *flags, "--dtype", "bf16"))[32]
    assert bf16["nll"] != fp32["nll"]
    assert bf16["nll"] == pytest.approx(fp32["nll"], rel=0.02)


# --- the scale ---


def test_the_scale_is_the_one_that_set_window_writes(model_dir, data, tmp_path, capsys):
    """Whole for a model that met whole scales, W / L for one that met none."""
    for trained, scale in ((True, 2.0), (False, 1.5)):
        folder = tmp_path / str(trained)
        shutil.copytree(model_dir, folder)
        if not trained:
            config = json.loads((folder / "config.json").read_text())
            del config["e2_llm"]
            (folder / "config.json").write_text(json.dumps(config))
        flags = ["--windows", 48, "--stride", 8]
        measured = by_window(evaluate(folder, data, tmp_path / f"{trained}.json", *flags))[48]
        set_window(folder, 48)
        assert "note: " not in capsys.readouterr().err
        served = evaluate(folder, data, tmp_path / "served.json", *flags, "--scale", "none")
        assert (measured["scale"], by_window(served)[48]["scale"]) == (scale, scale)
        assert by_window(served)[48]["nll"] == measured["nll"]


def test_another_factor_in_config_json_is_said(model_dir, data, tmp_path, capsys):
    folder = tmp_path / "old"
    shutil.copytree(model_dir, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(with_scale(config, 1.5, 48)))
    evaluate(folder, data, tmp_path / "old.json", "--windows", 48, "--stride", 8)
    assert "serves 48 tokens at factor 1.5, its training asks for 2" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_set_scale_equals_a_fresh_load_with_that_scale(model_dir, tmp_path, dtype):
    rope = {"rope_type": "linear", "factor": 3.0, "rope_theta": 10000.0}
    fresh = AutoModelForCausalLM.from_pretrained(
        model_dir, rope_parameters=rope, dtype=DTYPES[dtype]
    ).eval()
    model = load_model(model_dir, DTYPES[dtype], torch.device("cpu"))
    ids = torch.arange(3, 60)[None]
    unscaled = model(ids).logits
    set_scale(model, load_config(model_dir), 3.0, 96)
    assert torch.equal(model.model.rotary_emb.inv_freq, fresh.model.rotary_emb.inv_freq)
    assert torch.equal(model(ids).logits, fresh(ids).logits)
    assert not torch.allclose(model(ids).logits, unscaled, atol=1e-2)
    set_scale(model, load_config(model_dir), 1.0, 32)
    assert torch.equal(model(ids).logits, unscaled)


def test_scales_auto_none_and_fixed(model_dir, data, tmp_path):
    flags = ["--windows", 16, 64, "--stride", 8, "--scale"]
    auto = by_window(evaluate(model_dir, data, tmp_path / "auto.json", *flags, "auto"))
    none = by_window(evaluate(model_dir, data, tmp_path / "none.json", *flags, "none"))
    one = by_window(evaluate(model_dir, data, tmp_path / "one.json", *flags, "1"))
    two = by_window(evaluate(model_dir, data, tmp_path / "two.json", *flags, "2"))
    assert {w: row["scale"] for w, row in auto.items()} == {16: 1.0, 64: 2.0}
    assert {w: row["scale"] for w, row in two.items()} == {16: 2.0, 64: 2.0}
    assert all(row["scale"] == 1.0 for row in none.values())
    for window in (16, 64):
        assert one[window]["nll"] == none[window]["nll"]
    assert auto[16]["nll"] == none[16]["nll"]
    assert auto[64]["nll"] == two[64]["nll"] != none[64]["nll"]


@pytest.mark.parametrize(
    ("rule", "rope"),
    [
        ("yarn", {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}),
        # theta * g ** (d / (d - 2)) for heads of 8
        ("ntk", {"rope_type": "default", "rope_theta": 10000.0 * 2 ** (8 / 6)}),
    ],
)
def test_any_model_is_served_by_another_rule(model_dir, data, tmp_path, rule, rope):
    """--frequencies equals a model whose config.json asks transformers for the same."""
    written = tmp_path / "written"
    copy_model(model_dir, written, rope_parameters={"rope_theta": 10000.0, **rope})
    flags = ["--windows", 64, "--stride", 16]
    expected = evaluate(written, data, tmp_path / "a.json", *flags, "--scale", "none")
    results = evaluate(model_dir, data, tmp_path / "b.json", *flags, "--frequencies", rule)
    linear = evaluate(model_dir, data, tmp_path / "c.json", *flags)
    assert (results["frequencies"], linear["frequencies"]) == (rule, "linear")
    assert by_window(results)[64]["nll"] == pytest.approx(by_window(expected)[64]["nll"], rel=1e-6)
    assert abs(by_window(linear)[64]["nll"] - by_window(expected)[64]["nll"]) > 1e-3


def test_an_exported_model_is_rescaled_from_its_base_window(model_dir, data, tmp_path):
    """One weight file, any window: the factor already in config.json does not count twice."""
    exported = tmp_path / "exported"
    exported.mkdir()
    for file in model_dir.iterdir():
        (exported / file.name).symlink_to(file)
    config = with_scale(json.loads((model_dir / "config.json").read_text()), 4.0, 128)
    (exported / "config.json").unlink()
    (exported / "config.json").write_text(json.dumps(config))
    flags = ["--windows", 64, "--stride", 16]
    plain = evaluate(model_dir, data, tmp_path / "a.json", *flags)
    again = evaluate(exported, data, tmp_path / "b.json", *flags)
    own = evaluate(exported, data, tmp_path / "c.json", *flags, "--scale", "none")
    four = evaluate(model_dir, data, tmp_path / "d.json", *flags, "--scale", "4")
    assert by_window(again)[64]["scale"] == 2.0
    assert by_window(again)[64]["nll"] == by_window(plain)[64]["nll"]
    assert by_window(own)[64]["scale"] == 4.0
    assert by_window(own)[64]["nll"] == by_window(four)[64]["nll"]


# --- the data ---


def test_limits_on_the_data(model_dir, data, tmp_path):
    def counts(*flags):
        flags = ["--windows", 16, "--stride", 8, *flags]
        read = evaluate(model_dir, data, tmp_path / "results.json", *flags)["data"]
        return read["documents"], read["tokens"]

    assert counts("--no-bos") == (3, 229)
    assert counts("--max-tokens", 200) == (2, 200)
    assert counts("--max-documents", 1) == (1, 151)
    assert counts("--no-bos", "--max-document-tokens", 50) == (3, 109)
    assert counts("--min-document-tokens", 11) == (2, 222)
    other = write_data(tmp_path / "other.jsonl", make_documents(30), key="body")
    flags = ["--windows", 16, "--stride", 8, "--json-key", "body"]
    assert evaluate(model_dir, other, tmp_path / "o.json", *flags)["data"]["documents"] == 1


def test_a_window_beyond_every_document_is_noted(model_dir, data, tmp_path, capsys):
    evaluate(model_dir, data, tmp_path / "r.json", "--windows", 16, 200, "--stride", 8)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]
    assert "has 151 tokens, fewer than window 200" in notes[0]
    assert notes[1:] == ["note: no token has a full context at every window"]


# --- resuming ---


def test_resume_skips_finished_windows_and_refuses_other_settings(
    model_dir, data, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "results.json"
    first = evaluate(model_dir, data, output, "--windows", 64, "--stride", 8)
    both = evaluate(model_dir, data, output, "--windows", 16, 64, "--stride", 8, "--resume")
    assert [row["window"] for row in both["results"]] == [16, 64]
    assert by_window(both)[64] == by_window(first)[64]  # its seconds too: not evaluated again
    again = [model_dir, data, output, "--windows", 16, 64, "--stride", 4, "--resume"]
    refused(capsys, "stride was 8 and now is 4", evaluate, *again, untouched=tmp_path)
    assert json.loads(output.read_text()) == both


def test_finished_windows_survive_a_crash(model_dir, data, tmp_path, monkeypatch):
    from e2_tools.evaluation.perplexity import run

    def crash_at_64(model, material, jobs, window, **others):
        if window == 64:
            raise KeyboardInterrupt
        return whole(model, material, jobs, window, **others)

    whole = run.evaluate_jobs
    monkeypatch.setattr(run, "evaluate_jobs", crash_at_64)
    output = tmp_path / "results.json"
    with pytest.raises(SystemExit, match="130"):
        evaluate(model_dir, data, output, "--windows", 16, 64, "--stride", 8)
    assert [row["window"] for row in json.loads(output.read_text())["results"]] == [16]
    assert {file.name for file in tmp_path.iterdir()} == {"data.jsonl", "results.json"}


def test_the_table_is_printed(model_dir, data, tmp_path, capsys):
    evaluate(model_dir, data, tmp_path / "r.json", "--windows", 16, "--stride", 8, "--label", "me")
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == (
        "label window scale tokens perplexity 95 % over documents full context".split()
    )
    assert row.split()[:4] == ["me", "16", "1", "229"]
    assert row.split()[6] == "…"  # low … high
