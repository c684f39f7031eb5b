# SPDX-License-Identifier: Apache-2.0
"""Needle prompts against lm-eval's own generator of RULER's niah_single tasks."""

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import nltk
import pytest

from e2_tools.evaluation.needle import prompt
from e2_tools.evaluation.needle.haystack import Noise, Text
from e2_tools.evaluation.ruler.tasks import NEEDLE
from e2_tools.evaluation.ruler.text import SENTENCE_END
from e2_tools.evaluation.ruler.words import word_list

# RULER's template and answer prefix of niah (scripts/data/synthetic/constants.py)
TEMPLATE = (
    "Some special magic {type_needle_v} are hidden within the following text. "
    "Make sure to memorize it. I will quiz you about the {type_needle_v} afterwards.\n{context}\n"
    "What are all the special magic {type_needle_v} for {query} mentioned in the provided text? "
    "The special magic {type_needle_v} for {query} mentioned in the provided text are"
)


@pytest.fixture(scope="module")
def lm_eval():
    """lm-eval's module alone, which the package reaches by way of many others."""
    package = importlib.util.find_spec("lm_eval")
    if package is None:
        pytest.skip("lm-eval: pip install --no-deps -r constraints-lm-eval.txt")
    place = Path(package.origin).parent / "tasks" / "ruler" / "prepare_niah.py"
    spec = importlib.util.spec_from_file_location("prepare_niah", place)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "datasets", ModuleType("datasets"))  # for essays of the hub
        patch.setattr(nltk.data, "find", lambda name: name)  # it would download Punkt
        spec.loader.exec_module(module)
    module.cached_sent_tokenize = sentences
    return module


def sentences(text):
    """Our sentences: where they end is the one thing in which we differ."""
    found = [[]]
    for word in text.split(" "):
        found[-1].append(word)
        if SENTENCE_END.search(word):
            found.append([])
    return [" ".join(words) for words in found if words]


@pytest.mark.parametrize("values", ["numbers", "uuids"])
@pytest.mark.parametrize("kind", ["repeat", "essay"])
def test_prompts_equal_given_the_same_draws(lm_eval, tmp_path, kind, values):
    text = tmp_path / "essay.txt"
    text.write_text(" ".join(f"word{n}{'.?!'[n % 3] if n % 11 == 10 else ''}" for n in range(2000)))
    ours = Noise() if kind == "repeat" else Text(text)
    haystack = lm_eval.get_haystack("repeat") if kind == "repeat" else text.read_text().split(" ")
    for size in (5, 40, 1000):
        # depths that stand for every line of noise; whole percents of a text's sentences
        depths = range(101) if kind == "essay" else [100 * n / size + 1e-9 for n in range(size)]
        for seed in range(20):
            random.seed(seed)
            theirs, (value,), key = lm_eval.generate_input_output(
                size,
                haystack,
                type_haystack=kind,
                num_needle_k=1,
                type_needle_k="words",
                num_needle_v=1,
                type_needle_v=values,
                template=TEMPLATE,
            )
            needle = NEEDLE.format(values=values, key=key, value=value)
            contexts = (ours.around(needle, size, depth) for depth in depths)
            kinds = {"kind": values.removesuffix("s"), "key": key}
            asked = prompt.TEMPLATE + prompt.ANSWER_PREFIX
            assert any(asked.format(context=each, **kinds) == theirs for each in contexts)


def test_keys_are_of_the_same_words(lm_eval):
    for kind, theirs in (("adjective", lm_eval.adjs), ("noun", lm_eval.nouns)):
        assert list(word_list(kind)) == sorted(set(theirs))
