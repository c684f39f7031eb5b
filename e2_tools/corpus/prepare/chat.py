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

Turns = list[dict[str, str]]  # role (system, user, assistant) and content
Spans = list[list[int]]
Template = Callable[[Turns], tuple[str, Spans]]

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
# Vicuna v1.1's, with which models of that family were tuned on ShareGPT.
_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_ROLES = {
    "system": "system",
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "assistant", "bing", "bard"), "assistant"),
}


def turns_of(record: Any) -> Turns:
    """Return a record's turns: a system one perhaps, then user and assistant in alternation.

    What the assistant says before the user does and what the user says last, unanswered, is left
    out.

    Args:
        record: with ``conversations`` of ``from`` and ``value`` as ShareGPT's, or ``messages`` of
            ``role`` and ``content``.

    Raises:
        Broken: it is not of that form.
    """
    if not isinstance(record, dict):
        raise Broken("not an object")
    listed = record.get("conversations", record.get("messages"))
    if not isinstance(listed, list):
        raise Broken("no list under conversations or messages")
    turns = [_turn(item) for item in listed]
    system = [turn for turn in turns[:1] if turn["role"] == "system"]
    rest = turns[len(system) :]
    while rest and rest[0]["role"] == "assistant":
        rest = rest[1:]
    if rest and rest[-1]["role"] == "user":
        rest = rest[:-1]
    if not rest:
        raise Broken("no question with an answer")
    roles = [turn["role"] for turn in rest]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise Broken("user and assistant do not alternate")
    return system + rest


def _turn(item: Any) -> dict[str, str]:
    if not isinstance(item, dict):
        raise Broken("a turn that is not an object")
    role = item.get("from", item.get("role"))
    content = item.get("value", item.get("content"))
    if not isinstance(role, str) or role not in _ROLES:
        raise Broken("a turn of nobody known")
    if not isinstance(content, str) or not content.strip():
        raise Broken("a turn without text")
    return {"role": _ROLES[role], "content": content}


def vicuna(turns: Turns) -> tuple[str, Spans]:
    """Vicuna v1.1: ``SYSTEM USER: … ASSISTANT: …</s>USER: …``.

    Returns:
        The text, and [begin, end) of each answer with the ``</s>`` that ends it.
    """
    text, spans = _VICUNA_SYSTEM + " ", []
    if turns[0]["role"] == "system":
        text, turns = turns[0]["content"] + " ", turns[1:]
    for turn in turns:
        if turn["role"] == "user":
            text += f"USER: {turn['content']} "
        else:
            text += "ASSISTANT: "
            spans.append([len(text), len(text) + len(turn["content"]) + len("</s>")])
            text += turn["content"] + "</s>"
    return text, spans


def chatml(turns: Turns) -> tuple[str, Spans]:
    """ChatML: ``<|im_start|>role``, a line break, what is said, ``<|im_end|>``.

    Returns:
        The text, and [begin, end) of each answer with the ``<|im_end|>`` that ends it.
    """
    text, spans = "", []
    for turn in turns:
        text += f"<|im_start|>{turn['role']}\n"
        begin = len(text)
        text += turn["content"] + "<|im_end|>"
        if turn["role"] == "assistant":
            spans.append([begin, len(text)])
        text += "\n"
    return text, spans


TEMPLATES: dict[str, Template] = {"vicuna": vicuna, "chatml": chatml}


def tokenizer_template(path: str) -> Template:
    """Return the chat template of the tokenizer in a folder.

    Answers are what the template marks with ``{% generation %}``, for which transformers' own
    ``return_assistant_tokens_mask`` sets its mask. Of a template without this mark an answer is
    what a rendering that ends with it adds to one that ends with the prompt for it, without the
    blanks behind the mark that ends it.

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
    if _GENERATION.search(source):
        return lambda turns: _marked(tokenizer, source, turns)

    def template(turns: Turns) -> tuple[str, Spans]:
        text, spans = _render(tokenizer, turns, False), []
        for number, turn in enumerate(turns):
            if turn["role"] == "assistant":
                before = _render(tokenizer, turns[:number], True)
                after = _render(tokenizer, turns[: number + 1], False)
                if not (text.startswith(after) and after.startswith(before)):
                    raise UserError(
                        f"--tokenizer-model {path}: its chat template changes what came before "
                        "when a turn is added, so answers cannot be told; use --chat-template"
                    )
                spans.append([len(before), _end_of_answer(after, turn["content"])])
        return text, spans

    return template


def _marked(tokenizer: Any, source: str, turns: Turns) -> tuple[str, Spans]:
    """Return the text, and what the template marks as the assistant's."""
    from transformers.utils.chat_template_utils import render_jinja_template

    with _refusals():
        texts, spans = render_jinja_template(
            [turns],
            chat_template=source,
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    return texts[0], [[begin, end] for begin, end in spans[0] if begin < end]


def _end_of_answer(text: str, answer: str) -> int:
    """Return the end of the mark that ends an answer, the last thing in a text."""
    begin = text.rfind(answer.strip())
    mark = text[begin + len(answer.strip()) :] if begin >= 0 else ""
    # Where blanks are all that ends an answer, they are what the model has to learn.
    return len(text.rstrip()) if mark.strip() else len(text)


def _render(tokenizer: Any, turns: Turns, prompt: bool) -> str:
    with _refusals():
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a template may refuse, for instance a system turn
        raise Broken("refused by the chat template") from error
