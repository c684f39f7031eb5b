# SPDX-License-Identifier: Apache-2.0
"""A tiny random Llama whose tokens are words, documents for it, and perplexity done naively."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from e2_llm.window import with_scale
from e2_tools.commands.evaluate_perplexity import main
from tests.helpers.tiny_llama import save_random_llama

BASE_WINDOW = 32
BOS = 0
WORDS = [f"w{number}" for number in range(60)]


def save_model(path: Path) -> Path:
    """Save it to ``path``; its tokenizer puts a BOS before a text and an EOS after it."""
    save_random_llama(path, 64, BASE_WINDOW)
    vocabulary = {word: number for number, word in enumerate(["<s>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", BOS), ("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(path)
    return path


def at_scale(path: Path, scale: float, window: int) -> LlamaForCausalLM:
    """Build the model anew from a config with that scale, in eval mode."""
    config = json.loads((path / "config.json").read_text())
    scaled = LlamaForCausalLM(LlamaConfig.from_dict(with_scale(config, scale, window)))
    scaled.load_state_dict(LlamaForCausalLM.from_pretrained(path).state_dict())
    return scaled.eval()


def make_documents(*lengths):
    generator = torch.Generator().manual_seed(1)
    return [
        [WORDS[i] for i in torch.randint(len(WORDS), (n,), generator=generator)] for n in lengths
    ]


def ids_of(words):
    return [3 + WORDS.index(word) for word in words]


def write_data(path, documents, key="text"):
    path.write_text("".join(json.dumps({key: " ".join(words)}) + "\n" for words in documents))
    return path


def evaluate(model_dir, data, output, *flags):
    """Run the command; return what it wrote."""
    main(
        ["--model", str(model_dir), "--data", str(data), "--output", str(output)]
        + ["--device", "cpu", *map(str, flags)]
    )
    return json.loads(output.read_text())


def by_window(results):
    return {row["window"]: row for row in results["results"]}


def naive_nll(model, ids, window, stride):
    """Token index -> nll, from one plain forward pass per window and Hugging Face's own labels."""
    nll, begin, scored_to = {}, 0, 1
    while scored_to < len(ids):
        end = min(begin + window, len(ids))
        for index in range(scored_to, end):
            labels = torch.full((1, end - begin), -100)
            labels[0, index - begin] = ids[index]
            inputs = torch.tensor([ids[begin:end]])
            with torch.no_grad():
                nll[index] = model(inputs, labels=labels).loss.item()
        scored_to = end
        begin += stride
    return nll


def copy_model(model_dir, path, **changes):
    path.mkdir()
    for file in model_dir.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    config = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps(config))
    return path
