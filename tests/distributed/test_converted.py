# SPDX-License-Identifier: Apache-2.0
"""A converted Hugging Face model in Megatron, at parallel layouts: transformers' own logits."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from e2_llm.frequencies import RULES, Llama3Scaling, OwnRope
from e2_tools.checkpoint.export import ExportOptions, export
from e2_tools.checkpoint.import_hf import ImportOptions, import_model
from tests.distributed.corpus import make_corpus
from tests.distributed.layouts import LAYOUTS
from tests.distributed.world import TINY_MODEL, TINY_TRAINING, run_world
from tests.helpers.families import FAMILIES, make_model

pytestmark = pytest.mark.timeout(700)  # the world runs within the first test's set-up
SCALES = [1.0, 2.0, 4.0]
# Both at once, with virtual stages; the others run in test-slow.
FAST = {"TP2×PP2+VPP": [*LAYOUTS["TP2×PP2"], *LAYOUTS["VPP"][2:]]}
SLOW = {name: LAYOUTS[name] for name in ("TP1", "TP2", "PP2", "TP2×PP2", "VPP")}


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Every family's tiny model, saved by transformers and converted."""
    folder = tmp_path_factory.mktemp("converted")
    for name, (_, _, flags) in FAMILIES.items():
        make_model(name).save_pretrained(folder / name)
        options = ImportOptions(hf_model=folder / name, save=folder / f"{name}-m", **flags)
        import_model(options)
    return folder, make_corpus(folder)


def common_flags(folder, data, name):
    # --use-checkpoint-args: what the converter stores has to suffice.
    flags = [*TINY_TRAINING, *data, "--use-checkpoint-args", "--seq-length", "32"]
    flags += ["--no-use-tokenizer-model-from-checkpoint-args", "--load", str(folder / f"{name}-m")]
    if name == "llama3":
        return [*flags, "--position-method", "llama3", "--e2-factor", "4"]
    return [*flags, "--e2-max-scale", "4"]


def megatron_logits(converted, layouts, world, more_runs=()):
    """Run every family on every layout; returns tokens, (family, layout) -> scale -> logits."""
    folder, data = converted
    runs, tokens = [], torch.randint(0, 256, (2, 64), generator=torch.Generator().manual_seed(1))
    for name in FAMILIES:
        common = [*common_flags(folder, data, name), "--skip-train", "--eval-iters", "1"]
        common += ["--e2-validation-windows", "64"]
        for layout, flags in layouts.items():
            probe = {"tokens": tokens.tolist(), "scales": SCALES}
            probe["output"] = str(folder / f"{world}-{name}-{layout}.pt")
            run = {"name": f"{name}/{layout}", "argv": [*common, *flags], "logits_of": probe}
            runs.append(run)
    runs += more_runs
    run_world(4, runs, folder / world, timeout=60 + 20 * len(runs))
    return tokens, {
        (name, layout): torch.load(folder / f"{world}-{name}-{layout}.pt")
        for name in FAMILIES
        for layout in layouts
    }


def check(converted, found, name, layout, scale):
    folder, _ = converted
    tokens, logits = found
    config = AutoModelForCausalLM.from_pretrained(folder / name).config
    rope = dict(config.rope_parameters)
    if name == "llama3":  # the one scale that it has is its own
        if scale != 4:
            return
    else:
        rope |= {"rope_type": "linear", "factor": rope.get("factor", 1.0) * scale}
    model = AutoModelForCausalLM.from_pretrained(
        folder / name, rope_parameters=rope, dtype=torch.float32
    )
    with torch.no_grad():
        expected = model(tokens).logits
    assert expected.abs().max() > 1  # such logits tell a wrong model from a right one
    torch.testing.assert_close(logits[name, layout][scale], expected, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def fast(converted):
    folder, data = converted
    # Train at one layout; load at another, train no further (lr 0), save.
    trained = [*common_flags(folder, data, "qwen2"), *LAYOUTS["TP2×PP2"], "--train-iters", "3"]
    trained += ["--use-distributed-optimizer", "--save", str(folder / "trained")]
    loaded = [*common_flags(folder, data, "qwen2"), "--load", str(folder / "trained")]
    loaded += ["--finetune", "--no-load-optim", "--no-load-rng", "--lr", "0", "--train-iters", "1"]
    loaded += ["--save", str(folder / "loaded"), "--save-interval", "1"]
    runs = [("trained", [*trained, "--save-interval", "3"]), ("loaded", loaded)]
    # A Llama 3.2 of Megatron's own making, then E2 from it: nothing but the checkpoint says so.
    common = [*TINY_TRAINING, *data, "--train-iters", "2", "--save-interval", "2"]
    llama = [*common, *TINY_MODEL, "--use-rope-scaling", "--rope-scaling-factor", "32"]
    runs.append(("own", [*llama, "--position-method", "none", "--save", str(folder / "own")]))
    e2 = [*common, "--use-checkpoint-args", "--pretrained-checkpoint", str(folder / "own")]
    e2 += ["--seq-length", "64", "--load", str(folder / "own-e2"), "--save", str(folder / "own-e2")]
    runs.append(("own-e2", [*e2, "--e2-frequencies", "yarn", *LAYOUTS["TP2×PP2"]]))
    runs = [dict(zip(("name", "argv"), run, strict=True)) for run in runs]
    return megatron_logits(converted, FAST, "fast", runs)


@pytest.mark.parametrize("name", ["own", "own-e2"])
def test_a_models_own_scaling_goes_through_training_and_export(converted, fast, name):
    folder, _ = converted
    llama3 = {"rope_type": "llama3", "factor": 32.0, "rope_theta": 10000.0}
    llama3 |= {"original_max_position_embeddings": 8192}
    llama3 |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    export(ExportOptions(load=folder / name, save=folder / f"{name}-hf"))
    config = AutoModelForCausalLM.from_pretrained(folder / f"{name}-hf").config
    assert config.rope_parameters == llama3
    export(ExportOptions(load=folder / name, save=folder / f"{name}-long", window=192))
    model = AutoModelForCausalLM.from_pretrained(folder / f"{name}-long")
    own, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    rule = RULES["yarn" if name == "own-e2" else "linear"]
    expected = rule.frequencies(16, OwnRope(10000.0, llama3=Llama3Scaling(32.0)), 3.0, 64)
    found = model.model.rotary_emb
    torch.testing.assert_close(found.inv_freq, expected.inverse, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.inv_freq[-1], own[-1] / 3, rtol=1e-6, atol=0)
    assert found.attention_scaling == pytest.approx(expected.attention_factor)


def test_export_does_not_know_the_layout(converted, fast):
    folder, _ = converted
    for name in ("trained", "loaded"):
        options = ExportOptions(
            load=folder / name, hf_model=folder / "qwen2", save=folder / f"{name}-hf"
        )
        export(options)
    files = [load_file(folder / f"{n}-hf" / "model.safetensors") for n in ("trained", "loaded")]
    before = load_file(folder / "qwen2" / "model.safetensors")
    assert files[0].keys() == files[1].keys() == before.keys()
    for name, tensor in files[0].items():
        assert torch.equal(tensor, files[1][name]), name
    assert not torch.equal(files[0]["model.norm.weight"], before["model.norm.weight"])


@pytest.fixture(scope="module")
def slow(converted):
    return megatron_logits(converted, SLOW, "slow")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("layout", FAST)
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_equal_transformers(converted, fast, name, layout, scale):
    check(converted, fast, name, layout, scale)


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("layout", SLOW)
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_equal_transformers_everywhere(converted, slow, name, layout, scale):
    check(converted, slow, name, layout, scale)
