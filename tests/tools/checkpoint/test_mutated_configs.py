# SPDX-License-Identifier: Apache-2.0
"""Mutated configurations: each is refused by one line, or the export computes what it asked for.

The reference is transformers: the model that it builds from the mutated file, and the model that
it builds from the exported one, with the same weights.
"""

import dataclasses
import functools
import json
import random

import pytest
import torch
import transformers

from e2_common.errors import UserError
from e2_llm.exported import Exported
from e2_llm.window import factor_note, window_note, with_rule, with_window
from e2_tools.checkpoint import config_keys
from e2_tools.checkpoint.config_types import ROPE_KINDS, read_config
from e2_tools.checkpoint.families import FAMILIES as KNOWN
from e2_tools.checkpoint.hf_config import model_config, require_same_model, served
from e2_tools.checkpoint.import_hf import ImportOptions, read_source
from e2_tools.checkpoint.megatron_args import stored_arguments
from e2_tools.checkpoint.run_args import run_args
from tests.helpers.families import FAMILIES, SIZES

SMALL = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 2}
LARGEST = 10**5  # parameters of a model that is built
TOKENS = torch.arange(24)[None]
ATOMS = (None, True, False, 0, 1, 2, 3, -1, 7, 0.5, 1.0, 2.5, -2.0, 1e300, 10**30, 10**400)
ATOMS += (float("nan"), float("inf"), "", "x", "yarn", "linear", "llama3", "llama", "sdpa", "²")
ATOMS += ("full_attention", "sliding_attention", "gelu", "silu", "float16")
# What models of transformers have under keys that atoms seldom fit.
PLAUSIBLE = {
    "is_causal": (False, True),
    "layer_types": (["sliding_attention"] * 2, ["full_attention"] * 2),
    "per_layer_config": ({"1": {"rms_norm_eps": 0.5}},),
    "sliding_window": (4, None),
    "use_sliding_window": (True, False),
    "max_window_layers": (0, 1),
    "head_dim": (4, 8),
    "attention_bias": (True,),
    "hidden_act": ("gelu",),
    "partial_rotary_factor": (0.5,),
    "rope_scaling": (
        {"type": "linear", "factor": 2.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        {"rope_type": "dynamic", "factor": 2.0},
    ),
    "rope_parameters": ({"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0}, None),
    "rope_theta": (100.0, 500000),
}


@functools.cache
def base(name):
    """The config.json of a tiny model, in the form of transformers 5 or 4."""
    kind, more, _ = FAMILIES[name]
    more = {key: value for key, value in more.items() if key != "head_dim"}
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **SMALL, **more}).to_dict()
    config |= {"architectures": [f"{kind}ForCausalLM"], "dtype": "float32"}
    return json.dumps(config)


def value(rng, depth=0):
    pick = rng.random()
    if pick < 0.75 or depth > 2:
        return rng.choice(ATOMS)
    inner = [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return (
        inner if pick < 0.88 else {rng.choice(("a", "0", "factor", "rope_type")): x for x in inner}
    )


def near(rng, old):
    """A value of the same type, as people change one."""
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return rng.choice((old + 1, old * 2, max(1, old // 2)))
    if isinstance(old, float):
        return rng.choice((old * 2, old / 2, old + 1))
    return rng.choice(ATOMS)


def change(rng, config, key):
    old = config.get(key)
    plain = config_keys.REFUSED[key].plain if key in config_keys.REFUSED else ()
    if old is None and rng.random() < 0.6:
        old = rng.choice((*PLAUSIBLE.get(key, ()), *plain, None))
    config[key] = near(rng, old) if rng.random() < 0.5 else value(rng)
    if key in PLAUSIBLE and rng.random() < 0.5:
        config[key] = rng.choice(PLAUSIBLE[key])


def nested(levels):
    return functools.reduce(lambda inner, _: [inner], range(levels), 1)


def mutated(seed):
    """A name of a family, and its configuration with up to three changes."""
    rng = random.Random(seed)
    name = rng.choice(sorted(FAMILIES))
    config = json.loads(base(name))
    if rng.random() < 0.3:  # the form of transformers 4
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta", 10000.0)
        config["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
    keys = [*config, *config_keys.REFUSED, *config_keys.DROPPED, "e2_llm", "rope_scaling"]
    keys += ["rope_theta", "head_dim", "sliding_window", "anything"]
    for _ in range(rng.randint(1, 3)):
        rope = config.get("rope_parameters") or config.get("rope_scaling")
        if isinstance(rope, dict) and rng.random() < 0.25:
            change(rng, rope, rng.choice([*rope, *ROPE_KINDS, *config_keys.ROPE_REFUSED]))
        elif rng.random() < 0.05:
            config.pop(rng.choice(sorted(config)))
        else:
            change(rng, config, rng.choice(keys if rng.random() < 0.7 else sorted(PLAUSIBLE)))
    if rng.random() < 0.01:
        config["anything"] = nested(rng.choice((60, 400)))
    return name, config


def exported(folder, raw, name):
    """What the export writes after an import of the folder, with its sizes; or the refusal."""
    choice = FAMILIES[name][2].get("rope_scaling")
    path = folder / "config.json"
    try:
        source = read_source(ImportOptions(hf_model=folder, rope_scaling=choice))
        sizes, family = source.sizes, source.family
        args = stored_arguments(source.flags, sizes, torch.float32, source.rope)
        run = run_args({"args": args, "iteration": 1})
        config_keys.require_understood(raw, family, path)
        require_same_model(run, sizes, path)
        kept = config_keys.understood(raw, family)
        return served(model_config(run, sizes, "float32", family, kept), run, None), sizes
    except UserError as error:
        return str(error)


def theirs(folder):
    """The model that transformers builds; None where it cannot, or not run."""
    try:
        config = transformers.AutoConfig.from_pretrained(folder)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        return model, logits(model)
    except Exception:
        return None


def logits(model):
    with torch.no_grad():
        return model(TOKENS % model.config.vocab_size, return_dict=True).logits


def with_block(seed, raw):
    """The same of an exported model, one field of whose block may be changed."""
    rng = random.Random(seed)
    block = {"method": "e2", "base_window": 64, "max_scale": 20, "rope_theta": 10000.0}
    block[rng.choice([field.name for field in dataclasses.fields(Exported)])] = value(rng)
    return {**raw, "e2_llm": block if rng.random() < 0.5 else raw.get("e2_llm")}


def test_the_window_of_mutated_configurations(tmp_path):
    """What set_window and the evaluators compute: a result or one line."""
    path, served = tmp_path / "config.json", 0
    for seed in range(200):
        path.write_text(json.dumps(with_block(seed, mutated(seed)[1])))
        try:
            config = read_config(path)
            if config.get("max_position_embeddings") is None:
                continue
            assert with_window(config, 1000)["max_position_embeddings"] == 1000
            factor_note(config)
            window_note(with_rule(config, "yarn"))
            served += 1
        except UserError as error:
            message = str(error)
            if "\n" in message:
                pytest.fail(message)
    assert served > 50


def check(folder, seeds):
    compared = 0
    for seed in seeds:
        name, raw = mutated(seed)
        (folder / "config.json").write_text(json.dumps(raw))
        found = exported(folder, raw, name)
        if isinstance(found, str):
            assert "\n" not in found, (seed, found)
            assert len(found) < 2000, (seed, found)
            continue
        config, sizes = found
        if raw.get("e2_llm") is not None or sizes.parameters > LARGEST:
            continue  # an export goes back to where its training began: another question
        family = KNOWN[config["model_type"]]
        assert set(config) <= config_keys.fields(family), (seed, set(config))
        torch.manual_seed(0)
        expected = theirs(folder)
        if expected is None:
            continue
        kind = transformers.CONFIG_MAPPING[family.model_type]
        ours = transformers.AutoModelForCausalLM.from_config(kind.from_dict(config)).eval()
        ours.load_state_dict(expected[0].state_dict())
        assert torch.allclose(logits(ours), expected[1], atol=1e-5, equal_nan=True), (seed, raw)
        compared += 1
    return compared


@pytest.mark.filterwarnings("ignore")
def test_refused_or_the_same_model(tmp_path):
    assert check(tmp_path, range(80)) > 10


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
def test_a_thousand_of_them(tmp_path):
    assert check(tmp_path, range(1000)) > 150


def test_deep_nesting_is_one_line(tmp_path):
    for levels in (60, 900, 5000, 200_000):
        text = json.dumps(json.loads(base("llama")))[:-1]
        (tmp_path / "config.json").write_text(f'{text}, "x": {"[" * levels}{"]" * levels}}}')
        with pytest.raises(UserError, match="config.json"):
            read_source(ImportOptions(hf_model=tmp_path))
