# SPDX-License-Identifier: Apache-2.0
"""How much attention lies on the first and last tokens, against eager attention and loops."""

import json

import numpy as np
import pytest
import torch
from matplotlib import image
from transformers import AutoModelForCausalLM

from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_tools.commands.plot_results import main as plot_results
from e2_tools.evaluation.attention.picture import draw_attention
from e2_tools.evaluation.attention.pooling import share_of_first, share_of_last
from tests.helpers.commands import refused
from tests.tools.evaluation.attention_runs import eager_rows, run


@pytest.mark.parametrize(("keys", "first", "last"), [(50, 4, 32), (3, 4, 32), (10, 1, 3)])
def test_shares_equal_a_loop(keys, first, last):
    """Of causal rows: the last tokens of row n end with its own, keys + n - 1."""
    generated = 5
    rows = np.random.default_rng(1).random((generated, keys + generated - 1))
    own = keys + np.arange(generated)[:, None]
    rows[np.arange(rows.shape[1]) >= own] = 0
    on_first, on_last = [], []
    for n, row in enumerate(rows):
        there = list(row[: keys + n])
        on_first.append(sum(there[:first]))
        on_last.append(sum(there[-last:]))
    assert share_of_first(rows, first) == pytest.approx(np.mean(on_first))
    assert share_of_last(rows, keys, last) == pytest.approx(np.mean(on_last))


def test_the_text_alone(model, text, tmp_path, capsys):
    """Its own next tokens, at the scale of the window; shares against eager attention."""
    output = tmp_path / "a.png"
    flags = ["--no-question", "--windows", 600, 40, "--layers", 0, 1, "--max-new-tokens", 16]
    results = run(model, text, output, *flags, "--table")
    assert (results["pairs"], image.imread(output).ndim) == (None, 3)
    ids = load_hf_tokenizer(model)(text.read_text()).input_ids
    near, far = results["results"]
    for row, window, scale in ((near, 40, 1), (far, 600, 3)):
        assert (row["window"], row["scale"], row["correct"]) == (window, scale, None)
        assert (row["value_span"], row["pair_spans"]) == (None, [])
        assert row["prompt_tokens"] == window - 16
        rope = {"rope_type": "linear", "factor": float(scale), "rope_theta": 10000.0}
        net = AutoModelForCausalLM.from_pretrained(model, rope_parameters=rope, dtype=torch.float32)
        rows = eager_rows(net, ids[: window - 16], ids[window - 16 : window], [0, 1], None)
        for layer, found in row["layers"].items():
            expected = rows[int(layer), :, :4].sum(-1).mean()
            assert found["on_first"] == pytest.approx(float(expected), abs=1e-5)
            ends = range(window - 16, window)
            last = [
                each[end - 32 if end > 32 else 0 : end].sum()
                for each, end in zip(rows[int(layer)], ends, strict=True)
            ]
            assert found["on_last"] == pytest.approx(float(sum(last)) / 16, abs=1e-5)
            assert found["on_value"] is None
    told = capsys.readouterr().out.splitlines()
    assert told[:3] == [
        "window 40, g = 1: the text goes on",
        "window 600, g = 3: the text goes on",
        "",
    ]
    assert told[3] == "| window | scale | layer | on the first 4 | on the last 32 |"
    share = far["layers"]["1"]["on_first"]
    assert told[-1].startswith(f"| 600 | 3 | 1 | {100 * share:.1f} | ")
    titles = [axes.get_title(loc="left") for axes in draw_attention(results).axes[:2]]
    assert titles[0].endswith("on the first 4 tokens")


def test_shares_of_several_models_are_drawn_by_window(model, text, tmp_path, capsys):
    files = [tmp_path / f"{name}.json" for name in ("one", "two")]
    for file, label in zip(files, ("A", "B"), strict=True):
        flags = ["--no-question", "--windows", 40, 80, "--max-new-tokens", 4, "--label", label]
        run(model, text, file.with_suffix(".png"), *flags, "--layers", 0, 1)
    capsys.readouterr()
    words = ["--output", tmp_path / "p.png", "--table", "--collect", tmp_path / "all.json"]
    plot_results([str(word) for word in (*files, *words, "--metric", "on_last")])
    shown = capsys.readouterr().out
    layers = json.loads(files[0].read_text())["results"][1]["layers"].values()
    mean = sum(found["on_last"] for found in layers) / 2
    head, _, first, _ = shown.splitlines()
    assert head == "| window | 40 | 80 |"
    assert first.startswith("| A | ")
    assert first.endswith(f" | {100 * mean:.1f} |")
    again = [
        tmp_path / "all.json",
        "--output",
        tmp_path / "q.png",
        "--table",
        "--metric",
        "on_last",
    ]
    plot_results([str(word) for word in again])
    assert capsys.readouterr().out == shown
    words = [files[0], "--output", tmp_path / "r.png", "--metric", "perplexity"]
    refused(
        capsys, ("--metric perplexity", "on_first"), plot_results, [str(word) for word in words]
    )
    old = json.loads(files[0].read_text())
    del old["results"][0]["layers"]["1"]["on_last"]
    files[0].write_text(json.dumps(old))
    words[-1] = "on_first"
    refused(capsys, (str(files[0]), "on_last"), plot_results, [str(word) for word in words])
