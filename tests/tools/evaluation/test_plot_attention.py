# SPDX-License-Identifier: Apache-2.0
"""Attention of generated tokens over the input, against transformers' eager attention."""

import json

import numpy as np
import pytest
import torch
from matplotlib import image
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_tools.evaluation.attention import rows as rows_module
from e2_tools.evaluation.attention.picture import draw_attention
from e2_tools.evaluation.attention.pooling import bin_edges, pooled
from e2_tools.evaluation.attention.prompt import PAIRS, build_prompt, draw_pairs
from e2_tools.evaluation.attention.rows import generate_with_rows
from e2_tools.evaluation.model import load_config, load_model
from tests.helpers.commands import refused
from tests.helpers.families import make_model
from tests.helpers.tiny_llama import BASE_WINDOW, EOS
from tests.tools.evaluation.attention_runs import eager_rows, run
from transformers_patches.generation import generate

GOLD = PAIRS["9f4a92b9-5f69-4725-ba1e-403f08dea695"]


# --- rows ---


@pytest.mark.parametrize("heads", [None, [0, 3]])
@pytest.mark.parametrize("family", ["llama", "smollm2", "mistral", "qwen2", "qwen3"])
def test_rows_equal_eager_attention(family, heads):
    """Of every family, all but llama with grouped queries; two layers, read in chunks."""
    torch.manual_seed(0)
    model = make_model(family).double()  # sharp attention multiplies rounding
    for parameter in model.parameters():  # far from uniform attention
        parameter.data *= 4
    model.set_attn_implementation("sdpa")
    grouped = model.config.num_key_value_heads < model.config.num_attention_heads
    assert grouped == (family != "llama")
    layers = [0, model.config.num_hidden_layers - 1]
    prompt = torch.randint(0, model.config.vocab_size, (50,)).tolist()
    answer, rows = generate_with_rows(model, prompt, 7, layers, heads, chunk=16)
    assert rows.shape == (2, len(answer), 50 + len(answer) - 1)
    torch.testing.assert_close(
        rows.double(), eager_rows(model, prompt, answer, layers, heads), atol=1e-5, rtol=0
    )
    assert rows.max() > 3 / 50  # not uniform


def test_the_answer_is_that_of_generate_and_stops(model):
    net, config = load_model(model, torch.float32, torch.device("cpu")), load_config(model)
    prompt = torch.randint(2, 258, (200,), generator=torch.Generator().manual_seed(3)).tolist()
    free = generate(net, [prompt], 8, config=config, scale="none", stop=[])[0]
    assert generate_with_rows(net, prompt, 8, [0])[0] == free
    stopped, rows = generate_with_rows(net, prompt, 8, [0], stop=[free[2]])
    assert stopped == free[: free.index(free[2]) + 1]
    assert rows.shape == (1, len(stopped), 200 + len(stopped) - 1)
    assert generate_with_rows(net, prompt[:1], 2, [1])[1].shape == (1, 2, 2)


def test_given_tokens_are_read_in_place_of_the_model_s_own(model):
    net = load_model(model, torch.float32, torch.device("cpu"))
    ids = torch.randint(2, 258, (64,), generator=torch.Generator().manual_seed(4)).tolist()
    answer, rows = generate_with_rows(net, ids[:56], 8, [0, 1], given=ids[56:])
    assert answer == ids[56:]
    expected = eager_rows(net, ids[:56], ids[56:], [0, 1], None)
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=0)


class Largest(TorchDispatchMode):
    """Remembers the most bytes that any tensor made inside takes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else (result,):
            if isinstance(each, torch.Tensor):
                self.bytes = max(self.bytes, each.untyped_storage().nbytes())
        return result


def test_nothing_of_the_size_of_the_input_squared_is_made(model):
    net = load_model(model, torch.float32, torch.device("cpu"))
    length, chunk = 3000, 128
    prompt = torch.randint(2, 258, (length,)).tolist()
    with Largest() as largest:
        generate_with_rows(net, prompt, 3, [0, 1], chunk=chunk)
    # The mask of a chunk, as floats, or keys repeated for grouped queries.
    bound = 4 * max(chunk * length, length * net.config.hidden_size)
    assert 0 < largest.bytes <= bound < length**2


# --- prompt and pooling ---


@pytest.mark.parametrize("room", [500, 1000])
def test_the_prompt_fills_its_room_and_knows_where_the_value_stands(model, text, room):
    tokenizer = load_hf_tokenizer(model)
    prompt = build_prompt(tokenizer, text.read_text(), room, 50, draw_pairs(None))
    assert room - 4 <= len(prompt.ids) <= room
    begin, end = prompt.value_span
    assert tokenizer.decode(prompt.ids[begin:end]) == prompt.value == GOLD
    pairs = [tokenizer.decode(prompt.ids[slice(*span)]) for span in prompt.pair_spans]
    assert pairs == [f'"{key}": "{value}"' for key, value in PAIRS.items()]
    whole = tokenizer.decode(prompt.ids, skip_special_tokens=True)
    assert whole.endswith('\n\nWhat is the value of key "9f4a92b9-5f69-4725-ba1e-403f08dea695"?')
    filler = room - len(whole[whole.index("Extract") : whole.index("}") + 1])
    assert whole.index("Extract") == pytest.approx(filler / 2, abs=60)


def test_a_seed_draws_other_pairs():
    assert draw_pairs(None) == PAIRS
    assert len({*draw_pairs(1), *draw_pairs(1).values(), *draw_pairs(2)}) == 9


@pytest.mark.parametrize(("length", "bins"), [(10, 4), (1000, 400), (7, 400), (400, 400)])
def test_pooling_equals_a_loop(length, bins):
    rows = np.random.default_rng(0).random((3, length))
    edges = bin_edges(length, bins)
    assert (edges[0], edges[-1], len(edges)) == (0, length, min(bins, length) + 1)
    assert np.ptp(np.diff(edges)) <= 1
    pairs = list(zip(edges[:-1], edges[1:], strict=True))
    for pool, function in (("max", np.max), ("mean", np.mean)):
        naive = np.stack([function(rows[:, a:b], axis=1) for a, b in pairs], axis=1)
        np.testing.assert_allclose(pooled(rows, bins, pool), naive)


# --- end to end ---


def test_results_and_picture(model, text, tmp_path, capsys):
    output = tmp_path / "new" / "attention.png"
    flags = ["--windows", 900, 600, "--layers", 1, 0, "--max-new-tokens", 5, "--bins", 50]
    results = run(model, text, output, *flags)
    assert results["schema"] == "e2-llm/attention/1"
    assert results["layers"] == [0, 1]
    assert results["provenance"]["command"]
    assert [row["window"] for row in results["results"]] == [600, 900]
    for row, scale in zip(results["results"], (3, 4), strict=True):
        assert row["scale"] == scale == -(-row["window"] // BASE_WINDOW)
        assert row["correct"] is False
        begin, end = row["value_span"]
        assert 0 < begin < end == begin + 36 < row["prompt_tokens"] <= row["window"] - 5
        for found in row["layers"].values():
            assert np.shape(found["rows"]) == (len(row["tokens"]), 50)
            assert 0 < found["on_value"] < 1
            assert 0 < found["on_first"] < 1
            assert 0 < found["on_last"] < 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["window 600", "window 900"]
    assert image.imread(output).ndim == 3
    titles = [axes.get_title(loc="left") for axes in draw_attention(results).axes[:4]]
    assert titles[0].startswith("600, g = 3, layer 0: answer wrong, ")


def test_the_scale_is_chosen_before_the_prompt_is_read(model, text, tmp_path):
    """The rows of the file are those of a model loaded at that scale."""
    flags = ["--windows", 600, "--layers", 1, "--max-new-tokens", 3, "--bins", 10_000]
    (row,) = run(model, text, tmp_path / "a.png", *flags)["results"]
    rope = {"rope_type": "linear", "factor": 3.0, "rope_theta": 10000.0}
    net = AutoModelForCausalLM.from_pretrained(model, rope_parameters=rope, dtype=torch.float32)
    prompt = build_prompt(load_hf_tokenizer(model), text.read_text(), 597, 55, draw_pairs(None))
    answer, _ = generate_with_rows(net, prompt.ids, 3, [1], stop=[EOS])
    expected = eager_rows(net, prompt.ids, answer, [1], None)[0, :, : len(prompt.ids)]
    np.testing.assert_allclose(row["layers"]["1"]["rows"], expected, atol=1e-5, rtol=1e-3)
    value = expected[:, slice(*row["value_span"])].sum(-1).mean()
    assert row["layers"]["1"]["on_value"] == pytest.approx(float(value), abs=1e-5)


def test_a_right_answer_is_told(model, text, tmp_path, monkeypatch, capsys):
    tokenizer = load_hf_tokenizer(model)

    def answer(net, prompt, *rest, **options):
        ids = tokenizer(f"It is {GOLD}.", add_special_tokens=False).input_ids
        return ids, torch.full((1, len(ids), len(prompt)), 1e-3)

    monkeypatch.setattr("e2_tools.evaluation.attention.run.generate_with_rows", answer)
    results = run(model, text, tmp_path / "a.png", "--windows", 600)
    assert results["results"][0]["correct"] is True
    assert "answer right" in draw_attention(results).axes[0].get_title(loc="left")
    assert "right, 'It is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--windows", 100_000], ("--windows 100000", "--text", "longer text")),
        (["--windows", 300], ("--windows 300", "too small")),
        (["--windows", 600, "--layers", 2], ("--layers 2", "0 to 1")),
        (["--windows", 600, "--heads", 4], ("--heads 4", "0 to 3")),
        (["--windows", 600, "--text", "nosuch"], ("--text nosuch",)),
        (["--windows", 600, "--no-question", "--seed", 1], ("--seed", "--no-question")),
        (["--windows", 600, "--no-question", "--depth", 5], ("--depth", "--no-question")),
        (["--windows", 600, "--no-question", "--suffix", "x"], ("--suffix", "--no-question")),
        (["--windows", 100_000, "--no-question"], ("--windows 100000", "--text", "longer text")),
        (["--windows", 64, "--no-question"], ("--windows 64", "--max-new-tokens")),
        (["--windows", 600, "--output", "a.pdf"], ("--output a.pdf", ".png")),
        (["--windows", 600, "--model", "nosuch"], ("nosuch", "--model")),
    ],
)
def test_mistakes_are_one_line(model, text, tmp_path, capsys, flags, words):
    refused(capsys, words, run, model, text, tmp_path / "a.png", *flags, untouched=tmp_path)


def test_other_kinds_of_models_are_refused(model, text, tmp_path, capsys):
    for name, change, words in (
        ("other", {"model_type": "gpt_neox"}, ("gpt_neox", "llama")),
        ("sliding", {"model_type": "mistral", "sliding_window": 256}, ("slides", "256")),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for file in model.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        config = json.loads((folder / "config.json").read_text()) | change
        (folder / "config.json").write_text(json.dumps(config))
        given = [folder, text, tmp_path / "a.png", "--windows", 600]
        refused(capsys, words, run, *given, untouched=tmp_path, alone=False)


def test_the_attention_is_put_back(model):
    net = load_model(model, torch.float32, torch.device("cpu"))
    with pytest.raises(RuntimeError), rows_module._weights_of(net, [0], None):
        raise RuntimeError
    assert net.config._attn_implementation == "sdpa"
