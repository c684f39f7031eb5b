# SPDX-License-Identifier: Apache-2.0
"""RULER's tasks: prompts, answer prefixes, token budgets, settings and metrics.

The templates, answer prefixes, budgets and settings are those of NVIDIA/RULER at c3f5e3b
(scripts/data/synthetic/constants.py, scripts/eval/synthetic/constants.py, scripts/synthetic.yaml;
Copyright NVIDIA, Apache-2.0), to the character, since scores are only comparable with them.
"""

from typing import Any, NamedTuple


class Family(NamedTuple):
    """Tasks of one form.

    Attributes:
        template: of the question, with ``{context}``.
        answer_prefix: how the answer begins; the model goes on.
        max_new_tokens: of an answer.
        metric: the name of a function of :mod:`e2_tools.evaluation.ruler.score`.
    """

    template: str
    answer_prefix: str
    max_new_tokens: int
    metric: str = "string_match_all"


class Task(NamedTuple):
    """A task: its family and its settings there.

    Attributes:
        needs: the flag of the file that the task draws from, if it needs one.
    """

    family: Family
    settings: dict[str, Any]
    needs: str = ""


# {values} is the plural that RULER's needle has even where there is a single one.
NEEDLE = "One of the special magic {values} for {key} is: {value}."
NIAH = Family(
    "Some special magic {kind} are hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {kind} afterwards.\n"
    "{context}\n"
    "What are all the special magic {kind} for {key} mentioned in the provided text?",
    " The special magic {kind} for {key} mentioned in the provided text are",
    128,
)
VT = Family(
    "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
    "{context}\n"
    "Question: Find all variables that are assigned the value {value} in the text above.",
    " Answer: According to the chain(s) of variable assignment in the text above, {variables} "
    "variables are assigned the value {value}, they are: ",
    30,
)
CWE = Family(
    "Below is a numbered list of words. In these words, some appear more often than others. "
    "Memorize the ones that appear most often.\n"
    "{context}\n"
    "Question: What are the 10 most common words in the above list?",
    " Answer: The top 10 words that appear most often in the list are:",
    120,
)
FWE = Family(
    "Read the following coded text and track the frequency of each coded word. Find the three most "
    "frequently appeared coded words. {context}\n"
    "Question: Do not provide any explanation. Please ignore the dots '....'. What are the three "
    "most frequently appeared words in the above coded text?",
    " Answer: According to the coded text above, the three most frequently appeared words are:",
    50,
)
QA = Family(
    "Answer the question based on the given documents. Only give me the answer and do not output "
    "any other words.\n\n"
    "The following are given documents.\n\n"
    "{context}\n\n"
    "Answer the question based on the given documents. Only give me the answer and do not output "
    "any other words.\n\n"
    "Question: {question}",
    " Answer:",
    32,
    "string_match_part",
)

ESSAY = "haystack"  # the flag of its text


def _niah(
    haystack: str,
    keys: str = "words",
    values: str = "numbers",
    *,
    key: int = 1,
    value: int = 1,
    query: int = 1,
) -> Task:
    """A needle task: its haystack, what keys and values are, how many, how many are asked for."""
    settings = {"haystack": haystack, "keys": keys, "values": values}
    counts = {"num_keys": max(key, query), "num_values": value, "num_queries": query}
    return Task(NIAH, settings | counts, ESSAY if haystack == "essay" else "")


TASKS = {
    "niah_single_1": _niah("noise"),
    "niah_single_2": _niah("essay"),
    "niah_single_3": _niah("essay", values="uuids"),
    "niah_multikey_1": _niah("essay", key=4),
    "niah_multikey_2": _niah("needle"),
    "niah_multikey_3": _niah("needle", "uuids", "uuids"),
    "niah_multivalue": _niah("essay", value=4),
    "niah_multiquery": _niah("essay", query=4),
    "vt": Task(VT, {}),
    "cwe": Task(CWE, {}),
    "fwe": Task(FWE, {}),
    "qa_1": Task(QA, {"dataset": "squad"}, "squad"),
    "qa_2": Task(QA, {"dataset": "hotpotqa"}, "hotpotqa"),
}


def task_order(name: str) -> tuple[int, str]:
    """Return what to sort tasks by: RULER's list; other names come last, in their own order."""
    return (list(TASKS).index(name) if name in TASKS else len(TASKS)), name


def for_one(template: str) -> str:
    """Return a needle template as RULER words it where there is a single value to find."""
    return template.replace("Some", "A").replace("are all", "is").replace("are", "is")
