# SPDX-License-Identifier: Apache-2.0
"""How BABILong asks, to the character: its default template, instructions and examples."""

from typing import NamedTuple

SCHEMA = "e2-llm/babilong/1"

TEMPLATE = (
    "{task.instruction}\n\n{task.examples}\n\n{task.post_prompt}\n\n"
    "<context>\n{context}\n</context>\n\nQuestion: {question}"
)
MAX_NEW_TOKENS = 20
# The answers of all three tasks.
PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")


class Task(NamedTuple):
    """A task: the file of bAbI that it draws from, and what its prompt says."""

    file: str
    instruction: str
    examples: str
    post_prompt: str


_ONLY = "You need to answer the question based only on the information from the facts."
_ITEM = (
    "If a person got an item in the first location and travelled to the second location the item "
    "is also in the second location. If a person dropped an item in the first location and moved "
    "to the second location the item remains in the first location."
)
_ACTIONS = (
    "I give you context with the facts about locations and actions of different persons hidden in "
    "some random text and a question."
)
_NOTHING = "Do not write anything else after that."


def _examples(*told: tuple[str, str], between: str = "\n") -> str:
    return between.join(
        f"<example>\n{facts}\nAnswer: {answer}\n</example>" for facts, answer in told
    )


TASKS = {
    "qa1": Task(
        "qa1_single-supporting-fact",
        "I will give you context with the facts about positions of different persons hidden in "
        f"some random text and a question. {_ONLY} If a person was in different locations, use the "
        "latest location to answer the question.",
        _examples(
            (
                "Charlie went to the hallway. Judith come back to the kitchen. Charlie travelled "
                "to balcony. Where is Charlie?",
                "The most recent location of Charlie is balcony.",
            ),
            (
                "Alan moved to the garage. Charlie went to the beach. Alan went to the shop. Rouse "
                "travelled to balcony. Where is Alan?",
                "The most recent location of Alan is shop.",
            ),
            between="\n\n",
        ),
        "Always return your answer in the following format: The most recent location of ’person’ "
        f"is ’location’. {_NOTHING}",
    ),
    "qa2": Task(
        "qa2_two-supporting-facts",
        f"{_ACTIONS}{_ONLY}\n{_ITEM}",  # without a blank, as published
        _examples(
            (
                "Charlie went to the kitchen. Charlie got a bottle. Charlie moved to the balcony. "
                "Where is the bottle?",
                "The bottle is in the balcony.",
            ),
            (
                "Alan moved to the garage. Alan got a screw driver. Alan moved to the kitchen. "
                "Where is the screw driver?",
                "The screw driver is in the kitchen.",
            ),
        ),
        "Always return your answer in the following format: The ’item’ is in ’location’. "
        f"{_NOTHING}",
    ),
    "qa3": Task(
        "qa3_three-supporting-facts",
        f"{_ACTIONS} {_ONLY}\n{_ITEM}",
        _examples(
            (
                "John journeyed to the bedroom. Mary grabbed the apple. Mary went back to the "
                "bathroom. Daniel journeyed to the bedroom. Daniel moved to the garden. Mary "
                "travelled to the kitchen. Where was the apple before the kitchen?",
                "Before the kitchen the apple was in the bathroom.",
            ),
            (
                "John went back to the bedroom. John went back to the garden. John went back to "
                "the kitchen. Sandra took the football. Sandra travelled to the garden. Sandra "
                "journeyed to the bedroom. Where was the football before the bedroom?",
                "Before the bedroom the football was in the garden.",
            ),
        ),
        "Always return your answer in the following format: Before the $location_1$ the $item$ was "
        f"in the $location_2$. {_NOTHING}",
    ),
}


def question_of(task: Task, context: str, question: str) -> str:
    """Return the question as BABILong's ``get_formatted_input`` words it."""
    return TEMPLATE.format(task=task, context=context.strip(), question=question).strip()


def is_right(answer: str, target: str, question: str) -> bool:
    """BABILong's ``compare_answers``: the target is the only place of an answer's first sentence.

    Places that the question names do not count.
    """
    answer = answer.lower().split(".")[0].split("<context>")[0].split("<example>")[0]
    places = {place for place in PLACES if place in answer and place not in question.lower()}
    return places == {target.lower()}
