# SPDX-License-Identifier: Apache-2.0
"""LongBench's metrics: (prediction, answer, classes) -> a score from 0 to 1.

They give LongBench's own numbers to the last digit, its quirks included, since scores are only
worth something beside the published ones. Two look-alikes do not: Google's ``rouge-score`` and
``fuzzywuzzy`` with Levenshtein, or rapidfuzz, are points away.
"""

import difflib
import logging
import re
import string
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import Any

Metric = Callable[[str, str, Sequence[str]], float]

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
NUMBER = re.compile(r"\d+")
# Punctuation of Chinese text that LongBench drops beside ASCII's: full and half width.
CHINESE_PUNCTUATION = (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】"
    "〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏"
)
_NO_ASCII = str.maketrans("", "", string.punctuation)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation + CHINESE_PUNCTUATION)


def english_words(text: str) -> list[str]:
    """Split into lower-case words without ASCII punctuation and articles."""
    return ARTICLES.sub(" ", text.lower().translate(_NO_ASCII)).split()


def chinese_words(text: str) -> list[str]:
    """Split by jieba's default mode, then strip each word of punctuation and white space."""
    words = ("".join(w.lower().translate(_NO_PUNCTUATION).split()) for w in _jieba_words(text))
    return [word for word in words if word]


def word_f1(predicted: Sequence[str], expected: Sequence[str]) -> float:
    """Return the F1 of two bags of words, 0 if they share none."""
    shared = (Counter(predicted) & Counter(expected)).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(expected)
    return 2 * precision * recall / (precision + recall)


def qa_f1(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """F1 of English words, as SQuAD defines it."""
    return word_f1(english_words(prediction), english_words(answer))


def qa_f1_zh(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """F1 of Chinese words."""
    return word_f1(chinese_words(prediction), chinese_words(answer))


def rouge(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """ROUGE-L F1 of the package ``rouge``, which splits sentences at ``.`` and keeps case.

    0 where that package gives up: on texts without a word, and on sentences so long (hundreds of
    words) that its recursion exceeds Python's limit.
    """
    try:
        return _rouge().get_scores([prediction], [answer], avg=True)["rouge-l"]["f"]
    except (ValueError, RecursionError):
        return 0.0


def rouge_zh(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """ROUGE-L F1 over jieba's words."""
    return rouge(" ".join(_jieba_words(prediction)), " ".join(_jieba_words(answer)))


def classification(prediction: str, answer: str, classes: Sequence[str]) -> float:
    """1 / (how many classes the prediction names) if the answer is among them, else 0.

    A class whose name is part of the answer's (``Food`` of ``Food and drink``) should not count.
    LongBench drops such classes from the list that it is walking through, and so leaves out the
    one behind each dropped class: of two in a row the second still counts. Kept: it changes scores.
    """
    named = [name for name in classes if name in prediction]
    position = 0
    while position < len(named):
        name = named[position]
        if name in answer and name != answer:
            named.remove(name)  # the first of its name; the next class moves up and is passed over
        position += 1
    return 1 / len(named) if answer in named else 0.0


def count(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """Return the share of the prediction's numbers that are the answer."""
    numbers = NUMBER.findall(prediction)
    return numbers.count(answer) / len(numbers) if numbers else 0.0


def retrieval(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """Return the share of the prediction's numbers that are N of the answer ``Paragraph N``."""
    return count(prediction, _paragraph(answer, "Paragraph "))


def retrieval_zh(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """Return the share of the prediction's numbers that are N of the answer ``段落N``."""
    return count(prediction, _paragraph(answer, "段落"))


def code_sim(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """Similarity, in whole percents, of the answer and the prediction's first line of code.

    That is the first line, after leading newlines, without any of the marks of a comment or a
    Markdown fence: ``` ` ```, ``#`` and ``//``. It may be empty.
    """
    lines = prediction.lstrip("\n").split("\n")
    code = (line for line in lines if not any(mark in line for mark in ("`", "#", "//")))
    # What fuzzywuzzy.fuzz.ratio gives without Levenshtein, in the same direction.
    return round(100 * difflib.SequenceMatcher(None, next(code, ""), answer).ratio()) / 100


def _paragraph(answer: str, label: str) -> str:
    match = re.search(re.escape(label) + r"(\d+)", answer)
    if match is None:
        raise ValueError(f"the answer {answer[:40]!r} does not name a {label.strip()}")
    return match[1]


def _jieba_words(text: str) -> list[str]:
    return _jieba().lcut(text)


@cache
def _jieba() -> ModuleType:
    with warnings.catch_warnings():  # it imports what setuptools calls deprecated
        warnings.simplefilter("ignore")
        import jieba  # here, as its dictionary takes a second: only where Chinese is scored
    jieba.setLogLevel(logging.WARNING)
    return jieba


@cache
def _rouge() -> Any:
    from rouge import Rouge

    return Rouge(metrics=["rouge-l"])


# A new metric is a function and a line here.
METRICS: dict[str, Metric] = {
    metric.__name__: metric
    for metric in (
        qa_f1,
        qa_f1_zh,
        rouge,
        rouge_zh,
        classification,
        count,
        retrieval,
        retrieval_zh,
        code_sim,
    )
}
