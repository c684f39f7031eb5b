# SPDX-License-Identifier: Apache-2.0
"""The recipes for axolotl and LLaMA-Factory, up to the border of these programs."""

import importlib
import json
import sys
import types

import pytest
import torch
import transformers
from transformers import Trainer, TrainingArguments

from examples.other_trainers import llamafactory_e2
from examples.other_trainers.settings import e2_config
from tests.helpers.commands import call, refused
from tests.helpers.families import make_model
from transformers_patches import E2Callback, E2RotaryEmbedding

PLUGIN = "examples.other_trainers.axolotl_e2"
SETTINGS = {"max_scale": 4, "recipe": "best", "draw_per": "sample"}


@pytest.fixture
def plugin(monkeypatch):
    """The module of the plugin, with axolotl's own base class where axolotl is installed."""
    try:
        importlib.import_module("axolotl.integrations.base")
    except ImportError:
        base = types.ModuleType("axolotl.integrations.base")
        base.BasePlugin = type("BasePlugin", (), {})
        for name in ("axolotl", "axolotl.integrations"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setitem(sys.modules, base.__name__, base)
    monkeypatch.delitem(sys.modules, PLUGIN, raising=False)
    yield importlib.import_module(PLUGIN)
    sys.modules.pop(PLUGIN, None)
    if hasattr(sys.modules["examples.other_trainers"], "axolotl_e2"):
        del sys.modules["examples.other_trainers"].axolotl_e2


def test_the_plugin_of_axolotl_gives_a_trainer_the_draws(plugin, tmp_path):
    """As axolotl does: the class by its name, its settings, the callbacks before the trainer."""
    module, name = plugin.E2Plugin().get_input_args().rsplit(".", 1)
    args = getattr(importlib.import_module(module), name)(e2=SETTINGS)
    assert plugin.E2Args().e2 is None
    cfg = types.SimpleNamespace(e2=args.e2, sequence_len=32)
    model = make_model("qwen3").train()
    callbacks = plugin.E2Plugin().add_callbacks_pre_trainer(cfg, model)
    ids = torch.arange(32) % 200
    trainer = Trainer(
        model,
        TrainingArguments(
            str(tmp_path), max_steps=2, report_to=[], save_strategy="no", use_cpu=True
        ),
        train_dataset=[{"input_ids": ids, "labels": ids}] * 16,
        callbacks=callbacks,
    )
    trainer.train()
    assert isinstance(model.model.rotary_emb, E2RotaryEmbedding)
    assert len(model.model.rotary_emb.draws) == 8
    config = callbacks[0].config
    assert (config.base_window, config.train_window, config.max_scale) == (64, 32, 4)
    assert config.placement == "skips"


def test_the_hooks_are_axolotls():
    base = pytest.importorskip("axolotl.integrations.base").BasePlugin
    assert callable(base.get_input_args)
    assert callable(base.add_callbacks_pre_trainer)


@pytest.fixture
def started(monkeypatch):
    """What LLaMA-Factory is started with."""
    found, tuner = [], types.ModuleType("llamafactory.train.tuner")
    tuner.run_exp = lambda args, callbacks: found.append((args, callbacks))
    for name in ("llamafactory", "llamafactory.train"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, tuner.__name__, tuner)
    return found


def settings_file(tmp_path, **changes):
    model = tmp_path / "model"
    make_model("llama").config.save_pretrained(model)
    content = {"model_name_or_path": str(model), "cutoff_len": 32, "stage": "pt", "e2": SETTINGS}
    file = tmp_path / "settings.yaml"  # JSON is YAML
    file.write_text(json.dumps({k: v for k, v in (content | changes).items() if v is not None}))
    return file


def test_llama_factory_is_started_with_the_callback(started, tmp_path):
    call(llamafactory_e2.main, settings_file(tmp_path))
    [(args, [callback])] = started
    assert "e2" not in args
    assert args["stage"] == "pt"
    assert isinstance(callback, E2Callback)
    assert isinstance(callback, transformers.TrainerCallback)
    assert (callback.config.base_window, callback.config.train_window) == (64, 32)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cutoff_len": None}, "lacks cutoff_len"),
        ({"rope_scaling": "linear"}, "rope_scaling fixes one scale"),
        ({"e2": {"scale": 3}}, "scale: no such setting"),
        ({"e2": {"recipe": "worst"}}, "recipe 'worst'"),
        ({"e2": [1]}, "is no table"),
        ({"e2": {"max_scale": 0}}, "max-scale 0"),
        ({"model_name_or_path": "nowhere"}, "nowhere: has no config.json"),
    ],
)
def test_refusals(started, tmp_path, capsys, changes, words):
    file = settings_file(tmp_path, **changes)
    refused(capsys, words, call, llamafactory_e2.main, file)
    refused(capsys, "one file", call, llamafactory_e2.main)
    assert not started


def test_settings_say_what_the_flags_say():
    config = e2_config({"base_window": 128, "placement": "offset"}, {}, 64)
    assert (config.base_window, config.train_window, config.placement) == (128, 64, "offset")
