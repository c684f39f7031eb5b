# SPDX-License-Identifier: Apache-2.0
"""Losses of served windows: of the library's own loop, and of a Trainer's validation sets."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from e2_llm.config import E2Config
from e2_llm.window import with_scale
from tests.helpers.families import make_model
from transformers_patches import E2Callback, WindowCollator, install, window_loss

WINDOWS = {128: 2.0, 256: 4.0}  # and the scale that each is served at


def config(**options):
    return E2Config(base_window=64, train_window=32, max_scale=8, **options)


def samples(window, shifted=True):
    generator = torch.Generator().manual_seed(window)
    found = []
    for _ in range(2):
        tokens = torch.randint(0, 256, (window + 1,), generator=generator)
        label = tokens[1:].masked_fill(torch.arange(window) % 7 == 3, -100)
        labels = {"shift_labels": label} if shifted else {"labels": tokens[:-1]}
        found.append({"input_ids": tokens[:-1], **labels})
    return found


@torch.no_grad()
def served_losses(model, window, first=0):
    """Losses of the tokens [2, window - first] of a model that transformers serves at W."""
    content = with_scale(model.config.to_dict(), WINDOWS[window], window)
    served = AutoModelForCausalLM.from_config(type(model.config).from_dict(content)).eval()
    served.load_state_dict(model.state_dict())
    batch = WindowCollator()(samples(window))
    logits, labels = served(batch["input_ids"][:, first:]).logits, batch["shift_labels"][:, first:]
    losses = torch.nn.functional.cross_entropy(logits.mT, labels, reduction="none")
    return losses.masked_fill(labels == -100, torch.nan)


@pytest.mark.parametrize("window", WINDOWS)
def test_losses_are_those_of_the_model_as_it_is_served(window):
    model = make_model("smollm2").train()
    found = window_loss(model, install(model, config(), 1), samples(window), window)
    whole, half = served_losses(model, window), served_losses(model, window, window // 2)
    last = window // 4
    expected = [losses.nanmean().item() for losses in (whole, whole[:, -last:], half[:, -last:])]
    assert found == pytest.approx(expected, abs=2e-4)
    assert found.gain == pytest.approx(expected[2] - expected[1], abs=2e-4)
    assert model.training


def test_what_has_no_halves_is_not_cut():
    model = make_model("smollm2")
    positions = install(model, config(), 1)
    apart = [dict(one, position_ids=torch.arange(128) % 50) for one in samples(128)]
    assert window_loss(model, positions, apart, 128).gain is None
    plain = window_loss(model, positions, samples(128, shifted=False), 128)
    labels = WindowCollator()(samples(128, shifted=False))
    with torch.no_grad(), positions.window(128):
        assert plain.mean == pytest.approx(model(**labels).loss.item(), abs=1e-5)


def test_a_trainer_evaluates_each_window_as_it_is_served(tmp_path):
    """By its validation sets alone; a training in between has its own draws."""
    model = make_model("smollm2")
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=1,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        remove_unused_columns=False,
    )
    callback = E2Callback(config(validation_windows=(128, 256)), seed=3)
    trainer = Trainer(
        model,
        arguments,
        train_dataset=samples(32) * 8,
        eval_dataset={str(window): samples(window) for window in WINDOWS},
        data_collator=WindowCollator(),
        callbacks=[callback],
    )
    metrics = trainer.evaluate()
    for window in WINDOWS:
        expected = served_losses(model, window).nanmean().item()
        assert metrics[f"eval_{window}_loss"] == pytest.approx(expected, abs=2e-4)
        assert window_loss(model, callback.positions, samples(window), window).mean == (
            pytest.approx(expected, abs=2e-4)
        )
    trainer.train()
    assert callback.positions.rotary.draws


def test_a_prompt_is_no_window():
    """As long as one, it is answered as by a model that evaluates no windows."""
    found, prompt = [], samples(128)[0]["input_ids"][None]
    more = {"return_dict_in_generate": True, "output_logits": True, "pad_token_id": 0}
    for windows in ((), (128,)):
        model = make_model("smollm2").eval()
        positions = install(model, config(validation_windows=windows), 1)
        answer = model.generate(prompt, max_new_tokens=2, **more)
        with torch.no_grad():
            as_batch, shorter = model(prompt).logits, model(prompt[:, :100]).logits
            with positions.window(128):
                assert torch.equal(model(prompt).logits, as_batch) is bool(windows)
            with positions.window(256):  # said so, whatever the batch is
                found.append([*answer.logits, shorter, model(prompt).logits])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
