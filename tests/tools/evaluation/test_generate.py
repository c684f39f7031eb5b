# SPDX-License-Identifier: Apache-2.0
"""Generation at the scale that each request needs."""

import io
import json
import shutil

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import transformers_patches
from e2_common.errors import UserError
from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_llm.exported import Exported
from e2_llm.window import with_scale
from e2_tools.commands.generate import main
from e2_tools.evaluation.model import load_config, load_model
from tests.helpers.commands import refused
from tests.helpers.tiny_llama import BASE_WINDOW, EOS, is_greedy
from transformers_patches.generation import generate, scale_of_request


@pytest.fixture
def net(model):
    return load_model(model, torch.float32, torch.device("cpu"))


@pytest.mark.parametrize(
    ("length", "scale"), [(1, 1), (4096, 1), (4097, 2), (8192, 2), (15500 + 512, 4), (32769, 9)]
)
def test_the_smallest_whole_scale_that_fits(length, scale):
    config = Exported(method="e2", base_window=4096).to_config({})
    assert scale_of_request(config, length - 1, 1, "auto") == scale


def test_a_model_that_drew_real_scales_is_asked_at_w_over_l():
    config = Exported(method="e2", base_window=4096, whole_scales=False).to_config({})
    assert scale_of_request(config, 6000, 144, "auto") == 1.5


def prompts_of(*lengths):
    generator = torch.Generator().manual_seed(1)
    return [[0, *torch.randint(2, 258, (n - 1,), generator=generator).tolist()] for n in lengths]


@pytest.mark.parametrize("scale", ["auto", 3.0, "none"])
def test_a_batch_equals_naive_decoding_at_each_prompts_own_scale(model, net, scale):
    config = load_config(model)
    # With 8 new tokens the first two need g = 1, the last three g = 2, 2 and 3.
    lengths, own = (20, 248, 249, 300, 505), (1, 1, 2, 2, 3)
    prompts = prompts_of(*lengths)
    answers = generate(net, prompts, 8, config=config, scale=scale)
    for prompt, answer, own_scale in zip(prompts, answers, own, strict=True):
        g = {"auto": own_scale, "none": 1}.get(scale, scale)
        reference = with_scale(config, g, BASE_WINDOW * 3)
        assert is_greedy(model, reference, prompt, answer)
        assert len(answer) == 8 or answer[-1] == EOS


def test_the_scale_matters_in_this_model(model, net):
    (prompt,) = prompts_of(505)
    config = load_config(model)
    assert generate(net, [prompt], 8, config=config) != generate(
        net, [prompt], 8, config=config, scale=1.0
    )


def test_stops_end_an_answer_and_may_be_held_back(model, net):
    config, prompts = load_config(model), prompts_of(30, 50)
    free = generate(net, prompts, 8, config=config, stop=[])
    assert [len(answer) for answer in free] == [8, 8]
    stop = free[0][2]
    first = generate(net, prompts, 8, config=config, stop=[stop])[0]
    assert first == free[0][: free[0].index(stop) + 1]
    held = generate(net, prompts[:1], 8, config=config, stop=[free[0][0]], min_new_tokens=1)
    assert held[0][0] != free[0][0]


def test_settings_of_the_model_for_sampling_are_not_used(model, net):
    config, prompts = load_config(model), prompts_of(30)
    plain = generate(net, prompts, 8, config=config)
    net.generation_config.do_sample = True
    net.generation_config.repetition_penalty = 50.0
    net.generation_config.temperature = 5.0
    assert generate(net, prompts, 8, config=config) == plain
    assert net.generation_config.repetition_penalty == 50.0


def test_an_empty_prompt_and_a_rope_without_scale_are_refused(model, net):
    config = load_config(model)
    with pytest.raises(UserError, match="no tokens"):
        generate(net, [[]], 8, config=config)
    dynamic = json.loads(json.dumps(config)) | {"rope_parameters": {"rope_type": "dynamic"}}
    with pytest.raises(UserError, match="cannot be rescaled"):
        generate(net, [[0, 5]], 8, config=dynamic)


def test_the_library_needs_no_more_than_a_model_and_prompts(model, net):
    """What serving each prompt alone gives, from a model that was loaded at its one fixed g."""
    config, prompts = load_config(model), prompts_of(20, 300, 248, 505)
    rotary, window = net.model.rotary_emb, net.config.max_position_embeddings
    answers = transformers_patches.generate(net, prompts, 8)
    assert net.model.rotary_emb is rotary  # the model is as it was
    assert net.config.max_position_embeddings == window
    for prompt, answer, scale in zip(prompts, answers, (1, 2, 1, 3), strict=True):
        served = LlamaConfig.from_dict(with_scale(config, scale, BASE_WINDOW * scale))
        alone = LlamaForCausalLM.from_pretrained(model, config=served)
        ids = alone.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=8)
        assert ids[0, len(prompt) :].tolist() == answer
    assert transformers_patches.generate(net, [torch.tensor(p) for p in prompts], 8) == answers


def test_a_failure_leaves_the_model_as_it_was(net, monkeypatch):
    rotary = net.model.rotary_emb

    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(net, "generate", fail)
    with pytest.raises(UserError, match="memory does not suffice"):
        generate(net, prompts_of(300), 8)
    assert net.model.rotary_emb is rotary


def test_answers_may_be_sampled(net):
    prompts = prompts_of(30, 300)
    torch.manual_seed(1)
    sampled = generate(net, prompts, 8, do_sample=True, temperature=5.0)
    assert sampled != generate(net, prompts, 8)
    assert generate(net, prompts, 8, do_sample=True, top_k=1) == generate(net, prompts, 8)
    with pytest.raises(UserError, match="num_return_sequences"):
        generate(net, prompts, 8, do_sample=True, num_return_sequences=2)


def test_a_model_in_training_is_refused(net):
    settings = transformers_patches.E2Config(base_window=BASE_WINDOW, train_window=BASE_WINDOW)
    transformers_patches.install(net, settings, seed=1)
    with pytest.raises(UserError, match="takes the draws of a training"):
        generate(net, prompts_of(30), 8)


# --- the command ---


def command(model, prompt_file, *flags):
    arguments = ["--model", model, "--prompt-file", prompt_file, "--max-new-tokens", 8]
    arguments += ["--device", "cpu", "--dtype", "fp32", *flags]
    main([str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("characters", "flags", "g"), [(100, [], 1), (500, [], 2), (500, ["--scale", "5"], 5)]
)
def test_the_command_prints_the_text_and_the_scale_it_chose(
    model, net, tmp_path, capsys, characters, flags, g
):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("ab cd " * (characters // 6) + "\n")
    command(model, prompt, *flags)
    out, err = capsys.readouterr()
    tokenizer = load_hf_tokenizer(model)
    ids = tokenizer(prompt.read_text()[:-1]).input_ids
    (new,) = generate(net, [ids], 8, config=load_config(model), scale=float(g))
    assert out == tokenizer.decode(new, skip_special_tokens=True) + "\n"
    assert f"{len(ids)} prompt tokens + up to 8 new: g = {g} (L = 256)" in err


def test_the_prompt_may_come_from_stdin_in_a_template(model, tmp_path, capsys, monkeypatch):
    copy = tmp_path / "chat"
    shutil.copytree(model, copy)
    tokenizer = load_hf_tokenizer(copy)
    tokenizer.chat_template = "<s>{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    tokenizer.save_pretrained(copy)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Hi\n")))
    command(copy, "-", "--chat", "--scale", "none")
    assert "9 prompt tokens + up to 8 new: the model's own RoPE" in capsys.readouterr().err


def test_a_scale_beyond_the_trained_ones_is_noted(model, tmp_path, capsys):
    copy = tmp_path / "e2"
    shutil.copytree(model, copy)
    config = load_config(copy)
    config["e2_llm"]["max_scale"] = 2
    (copy / "config.json").write_text(json.dumps(config))
    (tmp_path / "prompt.txt").write_text("a" * 600)
    command(copy, tmp_path / "prompt.txt")
    assert "g = 3 (L = 256); note: factor 3 is beyond the trained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "flags", "words"),
    [
        (None, [], ("--prompt-file", "cannot be read")),
        (b"\n", [], ("--prompt-file", "is empty")),
        (b"\xff\xfe", [], ("--prompt-file", "UTF-8")),
        (b"a", ["--chat"], ("--chat", "no chat template")),
        (b"a", ["--model", "nosuch"], ("nosuch", "--model")),
    ],
)
def test_mistakes_are_one_line(model, tmp_path, capsys, content, flags, words):
    file = tmp_path / "prompt.txt"
    if content is not None:
        file.write_bytes(content)
    refused(capsys, words, command, model, file, *flags, untouched=tmp_path)
