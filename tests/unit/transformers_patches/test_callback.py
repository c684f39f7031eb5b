# SPDX-License-Identifier: Apache-2.0
"""A Trainer with the callback draws what the library draws for the samples that it trains on."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from e2_common.errors import UserError
from e2_llm.batch_draws import iteration_draws
from e2_llm.config import E2Config
from e2_llm.methods import method_for
from tests.helpers.families import make_model
from transformers_patches import E2Callback, WindowCollator

SEED = 11
OPTIONS = {
    "each sample": {"draw_per": "sample", "placement": "skips"},
    "micro-batch": {},
    "curriculum": {"curriculum": (0.5, 1.0), "draw_per": "sample"},
}


class Samples(torch.utils.data.Dataset):
    """Windows that are known by their first token."""

    def __len__(self):
        return 64

    def __getitem__(self, index):
        tokens = torch.randint(0, 256, (24,), generator=torch.Generator().manual_seed(index))
        tokens[0] = index
        return {"input_ids": tokens, "labels": tokens}


def train(folder, config, model=None, resume=None, **options):
    """Train; returns what every micro-batch trained on: its first tokens, and its draws."""
    settings = {"max_steps": 4, "gradient_accumulation_steps": 2, "report_to": []} | options
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=2,
        use_cpu=True,
        seed=SEED,
        disable_tqdm=True,
        logging_strategy="no",
        save_steps=2,
        train_sampling_strategy="sequential",
        **settings,
    )
    callback = E2Callback(config)
    trainer = Trainer(
        model or make_model("smollm2"),
        arguments,
        train_dataset=Samples(),
        data_collator=WindowCollator(),
        callbacks=[callback],
    )
    seen = []
    decoder = next(m for m in trainer.model.modules() if hasattr(m, "rotary_emb"))
    decoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(
            (kwargs["input_ids"][:, 0].tolist(), list(callback.positions.rotary.draws))
        ),
        with_kwargs=True,
    )
    trainer.train(resume_from_checkpoint=resume)
    return seen, trainer


@pytest.mark.parametrize("name", OPTIONS)
def test_every_micro_batch_has_the_draws_of_its_samples(tmp_path, name):
    config = E2Config(base_window=64, train_window=24, max_scale=8, **OPTIONS[name])
    seen, _ = train(tmp_path, config, save_strategy="no")
    assert [tokens for tokens, _ in seen] == [[i, i + 1] for i in range(0, 16, 2)]
    planned = E2Config(
        base_window=64,
        train_window=24,
        max_scale=8,
        planned_samples=16 if config.curriculum else 0,
        **OPTIONS[name],
    )
    expected = [
        draw for first in range(0, 16, 4) for draw in iteration_draws(planned, SEED, first, 4, 2)
    ]
    assert [draw for _, draws in seen for draw in draws] == expected
    if name == "each sample":
        method = method_for(config)
        assert seen[3][1] == [method.draw(SEED, 6), method.draw(SEED, 7)]


def test_a_resumed_run_goes_on_drawing(tmp_path):
    config = E2Config(base_window=64, train_window=24, max_scale=8, **OPTIONS["each sample"])
    whole, trainer = train(tmp_path / "whole", config, save_strategy="steps")
    rest, resumed = train(
        tmp_path / "whole",
        config,
        resume=str(tmp_path / "whole" / "checkpoint-2"),
        save_strategy="no",
    )
    assert rest == whole[4:]
    for one, other in zip(trainer.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_model_in_peft_draws_the_same(tmp_path):
    from peft import LoraConfig, get_peft_model

    config = E2Config(base_window=64, train_window=24, max_scale=8, **OPTIONS["each sample"])
    plain, _ = train(tmp_path, config, save_strategy="no")
    adapted = get_peft_model(make_model("smollm2"), LoraConfig(r=2, target_modules=["q_proj"]))
    wrapped, _ = train(tmp_path, config, adapted, save_strategy="no")
    assert wrapped == plain


def test_a_callback_that_is_added_late_is_in_time(tmp_path):
    config = E2Config(base_window=64, train_window=24, max_scale=8)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=1, use_cpu=True, report_to=[], save_strategy="no"
    )
    more = {"train_dataset": Samples(), "data_collator": WindowCollator()}
    trainer = Trainer(make_model("smollm2"), arguments, **more)
    callback = E2Callback(config)
    trainer.add_callback(callback)
    trainer.train()
    assert callback.positions.rotary.draws

    built = Trainer(None, arguments, model_init=lambda: make_model("smollm2"), **more)
    built.add_callback(E2Callback(config))
    built.callback_handler.on_init_end(arguments, built.state, built.control)
    with pytest.raises(UserError, match="model_init"):
        built.train()


def test_smaller_micro_batches_than_asked_for_have_the_draws_of_their_samples(
    tmp_path, monkeypatch
):
    """auto_find_batch_size begins anew with fewer, and the arguments stay as they are."""
    step, failed = Trainer.training_step, []

    def full(trainer, model, inputs, *more):
        if len(inputs["input_ids"]) > 1 and not failed:
            failed.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(trainer, model, inputs, *more)

    monkeypatch.setattr(Trainer, "training_step", full)
    config = E2Config(base_window=64, train_window=24, max_scale=8, **OPTIONS["each sample"])
    seen, trainer = train(tmp_path, config, save_strategy="no", auto_find_batch_size=True)
    assert failed
    assert trainer.args.train_batch_size == 2
    method = method_for(config)
    assert [tokens for tokens, _ in seen] == [[index] for index in range(8)]
    assert [draws for _, draws in seen] == [[method.draw(SEED, index)] for index in range(8)]


def test_batches_that_are_split_among_processes_are_refused():
    class Arguments:
        n_gpu, seed, world_size = 1, 1, 2

        class accelerator_config:  # noqa: N801
            split_batches = True

    with pytest.raises(UserError, match="split_batches"):
        E2Callback(E2Config(base_window=64, train_window=64)).on_init_end(Arguments, None, None)


def test_several_gpus_in_one_process_are_refused():
    class Arguments:
        n_gpu, seed = 2, 1

    with pytest.raises(UserError, match="2 GPUs in one process: .*torchrun"):
        E2Callback(E2Config(base_window=64, train_window=64)).on_init_end(Arguments, None, None)


def test_windows_of_several_lengths_are_refused():
    with pytest.raises(UserError, match="3 to 5 tokens"):
        WindowCollator()([{"input_ids": [1, 2, 3]}, {"input_ids": [1, 2, 3, 4, 5]}])
