# SPDX-License-Identifier: Apache-2.0
"""Read the forms in which conversations are published into one; nothing is dropped in silence."""

import contextlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from e2_tools.corpus.prepare.records import Broken

# Where the turns stand: ShareGPT and most of the hub, OpenAI, LMSYS-Chat-1M, UltraChat.
_LISTS = ("conversations", "messages", "conversation", "data")
_SYSTEM = ("system", "system_prompt")  # beside the turns
_TOOLS = ("tools", "functions")
_ROLE, _CONTENT = ("from", "role"), ("value", "content")
_LEARNT = ("weight", "train")  # OpenAI's and Mistral's, axolotl's: of one answer
_SYSTEM_ROLE, USER, ASSISTANT, TOOL = "system", "user", "assistant", "tool"
_ROLES = {
    **dict.fromkeys(("system", "developer"), _SYSTEM_ROLE),
    **dict.fromkeys(("human", "user", "prompter"), USER),
    **dict.fromkeys(("gpt", "chatgpt", "assistant", "bing", "bard", "model"), ASSISTANT),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), TOOL),
}
# What an assistant says or does beside its content; a conversation without it is another one.
SAID = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking")
_FOLLOWS = {
    None: (USER,),
    USER: (ASSISTANT,),
    ASSISTANT: (USER, TOOL),
    TOOL: (TOOL, ASSISTANT),
}


@dataclass
class Conversation:
    """A system turn perhaps, then what a user and an assistant say, an answer last.

    Attributes:
        turns: of each ``role`` (system, user, assistant, tool), ``content``, and whatever else the
            record says of it.
        tools: what the assistant may call, as OpenAI describes it; None if nothing is said.
        learnt: of each turn, whether the record lets it count in the loss.
        unused: keys and turns that are not in ``turns``, ``tools`` or ``learnt``, counted.
    """

    turns: list[dict[str, Any]]
    tools: list[Any] | None = None
    learnt: list[bool] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)

    def answers(self) -> list[bool]:
        """Return of each answer whether it may count in the loss."""
        pairs = zip(self.turns, self.learnt, strict=True)
        return [learnt for turn, learnt in pairs if turn["role"] == ASSISTANT]


def conversation_of(record: Any) -> Conversation:
    """Return a record's conversation.

    What the assistant says before the user does and what follows the last answer is left out and
    counted. Nulls and empty values are as if they were absent.

    Args:
        record: with a list of turns under ``conversations``, ``messages``, ``conversation`` or
            ``data``. A turn says who (``from`` or ``role``) and what (``value`` or ``content``), or
            is a text, of the user and the assistant by turns.

    Raises:
        Broken: it is not of that form, or contradicts itself.
    """
    if not isinstance(record, dict):
        raise Broken("not an object")
    record = _said(record)
    listed = next((name for name in _LISTS if isinstance(record.get(name), list)), None)
    if listed is None:
        raise Broken(f"no list under {', '.join(_LISTS[:-1])} or {_LISTS[-1]}")
    others = {key: value for key, value in record.items() if key != listed}
    tools, system = _tools(others), _system(others)
    unused = Counter(others.keys())
    turns = _turns(record[listed])
    if turns and turns[0]["role"] == _SYSTEM_ROLE:
        if system is not None and turns[0]["content"] != system:
            raise Broken("a system turn, and another system prompt beside the turns")
        system = turns[0]["content"] or system
        unused.update(beside(turns.pop(0)))
    turns = _from_question_to_answer(turns, unused)
    learnt = [_learnt(turn) for turn in turns]
    if system:
        turns, learnt = [{"role": _SYSTEM_ROLE, "content": system}, *turns], [False, *learnt]
    return Conversation(turns, tools, learnt, unused)


def _said(value: dict[str, Any]) -> dict[str, Any]:
    """Return what has a value: a column of the hub is null, or empty, where a record lacks it."""
    return {key: each for key, each in value.items() if each not in (None, "", [], {})}


def _take(of: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Remove and return the one value under some names for the same; None if there is none."""
    found = {name: of.pop(name) for name in names if name in of}
    values = list(found.values())
    if any(value != values[0] for value in values):
        raise Broken(f"{' and '.join(found)} differ")
    return values[0] if values else None


def _system(record: dict[str, Any]) -> str | None:
    system = _take(record, _SYSTEM)
    if system is not None and not isinstance(system, str):
        raise Broken("a system prompt that is not text")
    return system if system and system.strip() else None


def _tools(record: dict[str, Any]) -> list[Any] | None:
    tools = _take(record, _TOOLS)
    if isinstance(tools, str):  # a column of the hub has one type
        try:
            tools = json.loads(tools) if tools.strip() else None
        except (ValueError, RecursionError):
            raise Broken("tools that are not JSON") from None
    if tools is not None and not isinstance(tools, list):
        raise Broken("tools that are no list")
    return tools or None


def _turns(listed: list[Any]) -> list[dict[str, Any]]:
    if listed and all(isinstance(item, str) for item in listed):
        listed = [
            {"role": (USER, ASSISTANT)[number % 2], "content": item}
            for number, item in enumerate(listed)
        ]
    return [_turn(item, number == 0) for number, item in enumerate(listed)]


def _turn(item: Any, first: bool) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise Broken("a turn that is not an object")
    item = _said(item)
    role, content = _take(item, _ROLE), _take(item, _CONTENT)
    if not isinstance(role, str) or role not in _ROLES:
        raise Broken("a turn of nobody known")
    role, content = _ROLES[role], _text(content)
    if isinstance(item.get("tool_calls"), list):
        item["tool_calls"] = [_call(call) for call in item["tool_calls"]]
    calls = role == ASSISTANT and any(key in item for key in SAID)
    empty_system = role == _SYSTEM_ROLE and first
    if not content.strip() and not calls and not empty_system:
        raise Broken("a turn without text")
    return {**item, "role": role, "content": content if content.strip() else ""}


def _text(content: Any) -> str:
    """Return what is said: a text, or OpenAI's list of parts that are all texts."""
    if isinstance(content, list):
        if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
            raise Broken("a turn with a part that is not text")
        parts = [part.get("text") for part in content]
        content = "".join(parts) if all(isinstance(part, str) for part in parts) else None
    if content is None:
        return ""
    if not isinstance(content, str):
        raise Broken("a turn without text")
    return content


def _call(call: Any) -> Any:
    """Return a call with its arguments as an object, as chat templates want them."""
    function = call.get("function") if isinstance(call, dict) else None
    if isinstance(function, dict) and isinstance(function.get("arguments"), str):
        with contextlib.suppress(ValueError, RecursionError):
            arguments = json.loads(function["arguments"])
            if isinstance(arguments, dict):
                return {**call, "function": {**function, "arguments": arguments}}
    return call


def _from_question_to_answer(
    turns: list[dict[str, Any]], unused: Counter[str]
) -> list[dict[str, Any]]:
    roles = [turn["role"] for turn in turns]
    begin = next((n for n, role in enumerate(roles) if role != ASSISTANT), len(roles))
    end = next((n for n in range(len(roles), begin, -1) if roles[n - 1] == ASSISTANT), begin)
    if begin == end:
        raise Broken("no question with an answer")
    unused["answers before any question"] += begin
    unused["turns after the last answer"] += len(roles) - end
    before = None
    for role in roles[begin:end]:
        if role not in _FOLLOWS[before]:
            raise Broken("user and assistant do not alternate")
        before = role
    return turns[begin:end]


def _learnt(turn: dict[str, Any]) -> bool:
    """Take out of a turn whether it is to be learnt."""
    if turn["role"] != ASSISTANT:
        return False
    says = [turn.pop(key) for key in _LEARNT if key in turn]
    if any(each not in (0, 1) for each in says):
        raise Broken(f"{' or '.join(_LEARNT)} of an answer that is neither 0 nor 1")
    return all(says)


def beside(turn: dict[str, Any]) -> list[str]:
    """Return the keys of a turn but who speaks and what."""
    return [key for key in turn if key not in ("role", "content")]
