# SPDX-License-Identifier: Apache-2.0
"""Made-up data for RULER's tasks: essays, English words, SQuAD, HotpotQA, Punkt, a tiny model."""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from e2_tools.evaluation.passkey.prompt import FILLER
from e2_tools.evaluation.ruler.tasks import TASKS
from tests.helpers.tiny_llama import save_random_llama

SYLLABLES = "ba co di fe gu la mi no pe ru sa to vi we zo".split()


def word(source: random.Random) -> str:
    return "".join(source.choices(SYLLABLES, k=source.randint(1, 4)))


def prose(seed: int, words: int) -> str:
    """Sentences with abbreviations, quotes and line breaks, in which Punkt and marks differ."""
    source = random.Random(seed)
    text = []
    while len(text) < words:
        sentence = [word(source) for _ in range(source.randint(3, 14))]
        sentence[0] = sentence[0].title()
        if source.random() < 0.3:
            sentence.insert(source.randrange(len(sentence)), "Gen.")
        sentence[-1] += source.choice([".", ".", "!", "?", '."', ".\n", ".\n\n "])
        text += sentence
    return " ".join(text) + "\n"


def squad(seed: int) -> dict:
    source = random.Random(seed)
    articles = []
    for number in range(6):
        paragraphs = []
        for _ in range(source.randint(2, 12)):
            asked = [
                {
                    "question": f"Who {word(source)} {word(source)}?",
                    "is_impossible": source.random() < 0.3,
                    "answers": [{"text": word(source)} for _ in range(source.randint(1, 3))],
                }
                for _ in range(3)
            ]
            paragraphs.append({"context": prose(source.random(), 40), "qas": asked})
        paragraphs.append(paragraphs[0] | {"qas": []})  # the same text twice
        articles.append({"title": str(number), "paragraphs": paragraphs})
    return {"data": articles}


def hotpotqa(seed: int) -> list[dict]:
    source = random.Random(seed)
    documents = [[word(source), [prose(source.random(), 15) for _ in range(2)]] for _ in range(90)]
    return [
        {
            "question": f"Which {word(source)}?",
            "answer": word(source),
            "context": source.sample(documents, 10),
        }
        for _ in range(30)
    ]


def english_words() -> dict[str, str]:
    return {str(number): f"{SYLLABLES[number % len(SYLLABLES)]}{number}" for number in range(40000)}


def save_punkt(folder: Path) -> None:
    """Save a Punkt model that knows one abbreviation, as NLTK's data for English."""
    model = folder / "tokenizers" / "punkt_tab" / "english"
    model.mkdir(parents=True)
    for name in ("collocations.tab", "sent_starters.txt", "ortho_context.tab"):
        (model / name).write_text("")
    (model / "abbrev_types.txt").write_text("gen")


def save_counter(folder: Path) -> None:
    """Save a tokenizer that counts words and marks, the same under every version of tokenizers."""
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)


def save_model(folder: Path) -> Path:
    """Save a tiny random Llama that reads and writes any text, with a BOS and a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        show_progress=False,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    families = [task.family.template + task.family.answer_prefix for task in TASKS.values()]
    tokenizer.train_from_iterator([*families, FILLER, FILLER, prose(0, 2000)], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = (
        "{{ bos_token }}{% for message in messages %}[user] {{ message.content }} [end]"
        "{% endfor %}{% if add_generation_prompt %}You are asked: {x}{% endif %}"
    )
    fast.save_pretrained(folder)
    save_random_llama(folder, len(fast), 1024, bos_token_id=0, eos_token_id=1)
    return folder


def save_all(folder: Path) -> Path:
    """Save all of it below a folder, named as RULER's scripts have it."""
    contents = {
        "PaulGrahamEssays": {"text": prose(1, 6000)},
        "english_words": english_words(),
        "squad": squad(3),
        "hotpotqa": hotpotqa(4),
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    save_punkt(folder)
    save_counter(folder / "tokenizer")
    return folder
