# SPDX-License-Identifier: Apache-2.0
"""Conversations as text, and where in it the assistant speaks."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.hf_tokenizer import load_hf_tokenizer
from e2_tools.corpus.prepare.records import Broken
from e2_tools.corpus.prepare.turns import ASSISTANT, SAID, TOOL, USER, Conversation, beside

Turns = list[dict[str, Any]]  # role, content and what else is said of a turn
Spans = list[list[int]]
# From a conversation, whose unused keys it counts, to its text and [begin, end) of what is learnt.
Template = Callable[[Conversation], tuple[str, Spans]]

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
# Vicuna v1.1's, with which models of that family were tuned on ShareGPT.
_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def vicuna(conversation: Conversation) -> tuple[str, Spans]:
    """Vicuna v1.1: ``SYSTEM USER: … ASSISTANT: …</s>USER: …``.

    Returns:
        The text, and [begin, end) of each answer with the ``</s>`` that ends it.
    """
    turns = _plain(conversation, "vicuna")
    text, spans = _VICUNA_SYSTEM + " ", []
    if turns[0]["role"] == "system":
        text, turns = turns[0]["content"] + " ", turns[1:]
    for turn in turns:
        if turn["role"] == USER:
            text += f"USER: {turn['content']} "
        else:
            text += "ASSISTANT: "
            spans.append([len(text), len(text) + len(turn["content"]) + len("</s>")])
            text += turn["content"] + "</s>"
    return text, spans


def chatml(conversation: Conversation) -> tuple[str, Spans]:
    """ChatML: ``<|im_start|>role``, a line break, what is said, ``<|im_end|>``.

    Returns:
        The text, and [begin, end) of each answer with the ``<|im_end|>`` that ends it.
    """
    text, spans = "", []
    for turn in _plain(conversation, "chatml"):
        text += f"<|im_start|>{turn['role']}\n"
        begin = len(text)
        text += turn["content"] + "<|im_end|>"
        if turn["role"] == ASSISTANT:
            spans.append([begin, len(text)])
        text += "\n"
    return text, spans


def _plain(conversation: Conversation, name: str) -> Turns:
    """Return the turns for a form that knows roles and contents only.

    Raises:
        Broken: the assistant has tools, or says something beside its content.
    """
    no_form = f"for which --chat-template {name} has no form"
    if conversation.tools:
        raise Broken(f"tools, {no_form}")
    for turn in conversation.turns:
        if turn["role"] == TOOL:
            raise Broken(f"a tool's turn, {no_form}")
        for key in beside(turn):
            if key in SAID:
                raise Broken(f"{key}, {no_form}")
            conversation.unused[key] += 1
    return conversation.turns


TEMPLATES: dict[str, Template] = {"vicuna": vicuna, "chatml": chatml}


def tokenizer_template(path: str) -> Template:
    """Return the chat template of the tokenizer in a folder.

    Answers are what the template marks with ``{% generation %}``, for which transformers' own
    ``return_assistant_tokens_mask`` sets its mask. Of a template without this mark an answer is
    what a rendering that ends with it adds to one that ends with the prompt for it, without the
    blanks behind the mark that ends it.

    The template gets all that is said of a turn. What changes nothing of its text is counted as not
    used, and refused if it is tools, calls or reasoning.

    Raises:
        UserError: there is no tokenizer or template; or, on a call, a template without the mark
            renders the beginning of a conversation otherwise once it goes on.
    """
    if not Path(path).is_dir():
        raise UserError(f"--tokenizer-model {path}: no such folder; give a local tokenizer")
    tokenizer = load_hf_tokenizer(path, "--tokenizer-model")
    if not tokenizer.chat_template:
        raise UserError(f"--tokenizer-model {path}: has no chat template; use --chat-template")
    source = tokenizer.get_chat_template()

    def template(conversation: Conversation) -> tuple[str, Spans]:
        turns, tools = conversation.turns, conversation.tools
        text = _render(tokenizer, turns, tools, False)
        if tools and _render(tokenizer, turns, None, False) == text:
            raise Broken("tools, which the tokenizer's chat template does not write")
        for number, turn in enumerate(turns):
            for key in beside(turn):
                without = {name: value for name, value in turn.items() if name != key}
                others = [*turns[:number], without, *turns[number + 1 :]]
                if _render(tokenizer, others, tools, False) == text:
                    if key in SAID:
                        raise Broken(f"{key}, which the tokenizer's chat template does not write")
                    conversation.unused[key] += 1
        if _GENERATION.search(source):
            return _marked(tokenizer, source, turns, tools)
        return text, _added(tokenizer, text, turns, tools, path)

    return template


def _added(tokenizer: Any, text: str, turns: Turns, tools: list[Any] | None, path: str) -> Spans:
    """Return what each answer adds to the prompt for it."""
    spans = []
    for number, turn in enumerate(turns):
        if turn["role"] == ASSISTANT:
            before = _render(tokenizer, turns[:number], tools, True)
            after = _render(tokenizer, turns[: number + 1], tools, False)
            if not (text.startswith(after) and after.startswith(before)):
                if tools or any(map(beside, turns)):  # other conversations may be good
                    raise Broken("calls or reasoning that the chat template rewrites afterwards")
                raise UserError(
                    f"--tokenizer-model {path}: its chat template changes what came before "
                    "when a turn is added, so answers cannot be told; use --chat-template"
                )
            spans.append([len(before), _end_of_answer(after, turn["content"])])
    return spans


def _marked(
    tokenizer: Any, source: str, turns: Turns, tools: list[Any] | None
) -> tuple[str, Spans]:
    """Return the text, and what the template marks as the assistant's."""
    from transformers.utils.chat_template_utils import render_jinja_template

    with _refusals():
        texts, spans = render_jinja_template(
            [turns],
            tools=tools,
            chat_template=source,
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    return texts[0], [[begin, end] for begin, end in spans[0]]


def _end_of_answer(text: str, answer: str) -> int:
    """Return the end of the mark that ends an answer, the last thing in a text."""
    begin = text.rfind(answer.strip())
    mark = text[begin + len(answer.strip()) :] if begin >= 0 else ""
    # Where blanks are all that ends an answer, they are what the model has to learn.
    return len(text.rstrip()) if mark.strip() else len(text)


def _render(tokenizer: Any, turns: Turns, tools: list[Any] | None, prompt: bool) -> str:
    with _refusals():
        return tokenizer.apply_chat_template(
            turns, tools=tools, tokenize=False, add_generation_prompt=prompt
        )


def only_learnt(conversation: Conversation, spans: Spans) -> Spans:
    """Return the spans of the answers that the record lets count in the loss.

    Raises:
        Broken: the spans are not one for each answer, so they cannot be told.
    """
    answers = conversation.answers()
    if not all(answers):
        if len(answers) != len(spans):
            raise Broken("a weight of 0 among answers of which the chat template marks parts")
        spans = [span for span, learnt in zip(spans, answers, strict=True) if learnt]
    return [[begin, end] for begin, end in spans if begin < end]


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a template may refuse, for instance a system turn
        raise Broken("refused by the chat template") from error
