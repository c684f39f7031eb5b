# SPDX-License-Identifier: Apache-2.0
"""Protocols beside the published code itself, where the environment names a checkout of it.

``E2_YARN`` of jquesnelle/yarn, ``E2_LONGLORA`` of dvlab-research/LongLoRA.
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from transformers import AutoTokenizer

from tests.helpers.word_model import (
    at_scale,
    by_window,
    evaluate,
    ids_of,
    make_documents,
    write_data,
)

LENGTHS = (150, 70, 96, 9, 143)
WINDOW = 48
CHECKOUTS = {name: os.environ.get(f"E2_{name.upper()}") for name in ("yarn", "longlora")}


def official(monkeypatch, name, script, missing):
    """Import a script; of what it imports besides, a stand-in."""
    if not CHECKOUTS[name]:
        pytest.skip(f"E2_{name.upper()} names no checkout")
    for module, names in missing.items():
        stand_in = ModuleType(module)
        for each in names:
            setattr(stand_in, each, None)
        monkeypatch.setitem(sys.modules, module, stand_in)
    spec = importlib.util.spec_from_file_location(name, Path(CHECKOUTS[name], script))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours(model_dir, tmp_path, protocol, *flags):
    data = write_data(tmp_path / "data.jsonl", make_documents(*LENGTHS))
    flags = ["--windows", WINDOW, "--protocol", protocol, *flags]
    return by_window(evaluate(model_dir, data, tmp_path / "r.json", *flags))[WINDOW]["perplexity"]


@pytest.mark.slow
@pytest.mark.parametrize("stride", [7, 47, 48, None])
def test_yarn(model_dir, tmp_path, monkeypatch, stride):
    """``None`` is its ``--truncate``."""
    missing = {"datasets": [], "model_loader": []}
    module = official(monkeypatch, "yarn", "eval/perplexity.py", missing)
    documents = [ids_of(words) for words in make_documents(*LENGTHS)]
    theirs = module.compute_perplexity(
        {"input_ids": documents, "attention_mask": [[1] * len(each) for each in documents]},
        at_scale(model_dir, 2.0, WINDOW),
        AutoTokenizer.from_pretrained(model_dir),
        device="cpu",
        max_length=WINDOW,
        sliding_window=stride,
        truncate=stride is None,
        hide_progress=True,
    )["mean_perplexity"]
    flags = ["yarn", "--stride", stride] if stride else ["yarn-truncate"]
    assert ours(model_dir, tmp_path, *flags) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.slow
def test_longlora(model_dir, tmp_path, monkeypatch):
    missing = {"peft": ["PeftModel"], "llama_attn_replace": ["replace_llama_attn"]}
    module = official(monkeypatch, "longlora", "eval.py", missing)
    stream = np.array([t for words in make_documents(*LENGTHS) for t in ids_of(words)], np.uint16)
    model = at_scale(model_dir, 2.0, WINDOW)

    def theirs(batch):
        data = {"val": stream}
        return module.evaluate(model, data, batch, "cpu", WINDOW, 7)["val_perplexity"]

    found = ours(model_dir, tmp_path, "longlora", "--stride", 7)
    assert found == pytest.approx(theirs(1), rel=1e-6)
    windows = len(range(0, len(stream) - WINDOW, 7)) - 1
    assert windows % 32  # a last batch that is not full counts more there
    assert found != pytest.approx(theirs(32), rel=1e-4)
