# SPDX-License-Identifier: Apache-2.0
"""Prompts that begin alike: the same answers as transformers gives each alone, each token once."""

import contextlib

import pytest
import torch
import transformers

from tests.helpers.families import FAMILIES, SIZES, make_model
from transformers_patches import shared_prefill
from transformers_patches.continued_attention import continued_attention
from transformers_patches.generation import generate
from transformers_patches.scale import at_scale
from transformers_patches.shared_prefill import SharedPrefill, can_share, in_order, in_runs

NEW = 4


def ids_of(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 256, (count,), generator=generator).tolist()


def tree():
    """Prompts that leave a text at different tokens; one is the beginning of others."""
    text = ids_of(120, 0)
    cuts = ((100, 20), (60, 50), (110, 3), (100, 30), (0, 90), (120, 1), (80, 0), (1, 0))
    return [text[:cut] + ids_of(own, number + 1) for number, (cut, own) in enumerate(cuts)]


def nodes(prompts):
    """Tokens that have to be read: every beginning of a prompt once."""
    return len({tuple(prompt[:end]) for prompt in prompts for end in range(1, len(prompt) + 1)})


@contextlib.contextmanager
def tokens_read(model):
    """Counts the tokens that go into the model, pads too."""
    counts = []
    handle = model.get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: counts.append(inputs[0].numel())
    )
    try:
        yield counts
    finally:
        handle.remove()


def alone(model, prompts, scale):
    """transformers' own generate, for each prompt by itself."""
    answers = []
    with at_scale(model, model.config.to_dict(), scale):
        for prompt in prompts:
            ids = torch.tensor([prompt])
            new = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=NEW,
                min_new_tokens=NEW,
                eos_token_id=None,
                pad_token_id=0,
            )
            answers.append(new[0, len(prompt) :].tolist())
    return answers


def together(model, prompts, batch_size, scale, shared):
    answers, order = {}, in_order(prompts)
    for begin in range(0, len(order), batch_size):
        numbers = order[begin : begin + batch_size]
        batch = [prompts[number] for number in numbers]
        found = generate(model, batch, NEW, scale=scale, stop=[], shared=shared)
        answers |= dict(zip(numbers, found, strict=True))
    return [answers[number] for number in range(len(prompts))]


# Of other families only the names of the weights differ from one of these.
OFTEN = ("llama", "llama3", "qwen3")


@pytest.mark.parametrize(
    "family",
    [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES],
)
def test_answers_are_those_of_each_prompt_alone(family):
    model, prompts = make_model(family), tree()
    assert can_share(model)
    expected = alone(model, prompts, 2.0)
    for batch_size in (1, 3):
        shared = SharedPrefill()
        with tokens_read(model) as counts:
            assert together(model, prompts, batch_size, 2.0, shared) == expected
        assert shared.saved > 100
        if batch_size == 1:
            # Short beginnings are not worth it; the last token of each prompt is always read.
            spare = sum(len(prompt) for prompt in prompts) // 20
            again = len(prompts) * (1 + NEW - 1)
            assert sum(counts) <= nodes(prompts) + spare + again


def test_batches_that_share_their_beginning_read_it_once():
    model, text = make_model("llama"), ids_of(100, 0)
    prompts = [text + ids_of(own, own) for own in (3, 9, 1, 5)]
    shared = SharedPrefill()
    with tokens_read(model) as counts:
        assert together(model, prompts, 4, 2.0, shared) == alone(model, prompts, 2.0)
    assert counts[0] == len(text)
    assert counts[1] == 4 * 9
    assert shared.saved == 3 * len(text)


def test_nothing_of_another_scale_is_used():
    model, prompts, shared = make_model("qwen3"), tree(), SharedPrefill()
    for scale in (1.0, 2.0):
        assert together(model, prompts, 1, scale, shared) == alone(model, prompts, scale)
    mixed = together(model, prompts, 3, "auto", shared)
    assert mixed == [generate(model, [p], NEW, stop=[])[0] for p in prompts]


def test_it_keeps_one_prompt_at_most():
    model, prompts = make_model("llama"), tree()
    for batch_size in (1, 3):
        shared = SharedPrefill()
        together(model, prompts, batch_size, 2.0, shared)
        for layer in shared._cache.layers:
            batch, _, tokens, _ = layer.keys.shape
            assert batch == 1
            assert tokens <= max(map(len, prompts)) + NEW
    shared.clear()
    assert shared._cache is None


SLIDING = {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 2}
ROPE = {"factor": 2.0, "rope_theta": 10000.0, "original_max_position_embeddings": 64}
LISTS = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
DIFFERENT = {
    "all layers slide": ("Mistral", {"sliding_window": 16}),
    "some layers slide": ("Qwen2", SLIDING),
    "by the length": ("Llama", {"rope_parameters": {"rope_type": "dynamic", **ROPE}}),
    "by two lists": ("Llama", {"rope_parameters": {"rope_type": "longrope", **LISTS, **ROPE}}),
}  # fmt: skip


@pytest.mark.parametrize("kind", DIFFERENT)
def test_models_whose_beginnings_depend_on_what_follows_read_all(kind):
    family, more = DIFFERENT[kind]
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **more})
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    prompts, shared = tree(), SharedPrefill()
    assert not can_share(model)
    expected = [generate(model, [p], NEW, stop=[], scale="none")[0] for p in prompts]
    assert together(model, prompts, 1, "none", shared) == expected
    assert shared.saved == 0


def test_models_with_an_attention_of_their_own_keep_it():
    """They are not among those whose attention transformers can exchange."""
    sizes = {**SIZES, "num_kv_heads": 4, "alibi": False, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    model = transformers.FalconForCausalLM(transformers.FalconConfig(**sizes)).eval()
    prompts, shared = tree(), SharedPrefill()
    assert can_share(model)
    for batch_size in (1, 3):
        assert together(model, prompts, batch_size, 2.0, shared) == alone(model, prompts, 2.0)
    assert shared.saved > 100
    with continued_attention(model) as unmasked:
        assert not unmasked


def test_beams_do_without():
    model, prompts, shared = make_model("llama"), tree()[:2], SharedPrefill()
    plain = generate(model, prompts, NEW, stop=[], num_beams=2)
    assert generate(model, prompts, NEW, stop=[], num_beams=2, shared=shared) == plain
    assert shared.saved == 0


@pytest.mark.parametrize("chunk", [7, 512])
def test_where_attention_needs_a_mask_it_is_read_in_chunks(chunk, monkeypatch):
    model, prompts = make_model("qwen2"), tree()
    monkeypatch.setattr(shared_prefill, "CHUNK", chunk)
    monkeypatch.setattr(
        shared_prefill, "continued_attention", lambda _: contextlib.nullcontext(False)
    )
    shared = SharedPrefill()
    assert together(model, prompts, 1, 2.0, shared) == alone(model, prompts, 2.0)
    assert shared.saved > 100


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("past", [1, 50, 99])
def test_continued_attention_is_attention(family, dtype, past):
    """The last hidden state of 100 tokens, read in two parts, against one plain pass."""
    model, ids = make_model(family, dtype), torch.tensor([ids_of(100, 0)])

    @torch.inference_mode()
    def read(*ends):
        cache, begin = transformers.DynamicCache(config=model.config), 0
        for end in ends:
            with continued_attention(model) as unmasked:
                assert unmasked
                states = model.base_model(
                    input_ids=ids[:, begin:end],
                    position_ids=torch.arange(begin, end)[None],
                    past_key_values=cache,
                    use_cache=True,
                ).last_hidden_state
            begin = end
        return states[0, -1]

    with torch.inference_mode():
        plain = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, -1]
    found = read(*([past] if past else []), 100)
    assert model.config._attn_implementation == "sdpa"
    limit = 1e-4 if dtype == torch.float32 else 0.1
    assert torch.dist(found.float(), plain.float()) < limit * plain.float().norm()


def test_a_failure_leaves_nothing_behind(monkeypatch):
    model, prompts, shared = make_model("llama"), tree(), SharedPrefill()
    expected = alone(model, prompts, 2.0)
    own, calls = model.generate, []

    def fail(*args, **kwargs):
        calls.append("past_key_values" in kwargs)
        if kwargs.get("past_key_values") is not None:
            own(*args, **kwargs)  # its layers have grown
            raise torch.OutOfMemoryError
        return own(*args, **kwargs)

    monkeypatch.setattr(model, "generate", fail)
    assert together(model, prompts, 3, 2.0, shared) == expected  # the batch fits alone
    assert set(calls) == {True, False}
    assert shared._cache is None
    monkeypatch.setattr(model, "generate", own)
    assert together(model, prompts, 3, 2.0, shared) == expected


def test_runs_are_the_documents_the_longest_first():
    one, two = ids_of(50, 1), ids_of(90, 2)
    prompts = [[*one, 5], [*two, 3, 4], [*one, 4, 9], ids_of(70, 3), two]
    assert in_runs(prompts) == [[4, 1], [3], [2, 0]]
