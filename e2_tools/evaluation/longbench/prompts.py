# SPDX-License-Identifier: Apache-2.0
"""From a LongBench record to the token ids of its prompt."""

from pathlib import Path
from typing import Any

from e2_common import hf_tokenizer
from e2_common.errors import UserError
from e2_tools.evaluation.chat import chat_ids, has_chat_template
from e2_tools.evaluation.longbench.predictions import Record, read_records
from e2_tools.evaluation.longbench.tasks import Task

CHATS = ("none", "llama2", "template")
FIELDS = {
    "input": str,
    "context": str,
    "answers": list,
    "length": int,
    "all_classes": (list, type(None)),
}


def read_task(path: Path) -> list[Record]:
    """Read a task's records, of LongBench's fields.

    Raises:
        UserError: the file is missing, empty or malformed, or a record lacks a field.
    """
    return read_records(path, FIELDS)


def prompt_ids(
    task: Task, record: Record, tokenizer: Any, max_length: int, chat: str = "none"
) -> list[int]:
    """Return the token ids of a record's prompt.

    The prompt is cut in its middle to about ``max_length`` tokens, as text: it is tokenized again
    afterwards, which can add or remove a few tokens at the seam. The template of a chat model
    comes after that, and not around few-shot examples and code.

    Args:
        task: of the record.
        record: with ``context`` and ``input``.
        tokenizer: a transformers tokenizer.
        max_length: in tokens, without the answer and the chat template.
        chat: ``none`` for a base model, ``llama2`` for LongBench's ``[INST]…[/INST]``, or
            ``template`` for the tokenizer's own chat template.
    """
    prompt = task.prompt.format(context=record["context"], input=record["input"])
    ids = hf_tokenizer.prompt_ids(tokenizer, prompt)
    if len(ids) > max_length:
        half = max_length // 2
        prompt = "".join(
            tokenizer.decode(part, skip_special_tokens=True) for part in (ids[:half], ids[-half:])
        )
    if chat == "none" or not task.chat:
        return hf_tokenizer.prompt_ids(tokenizer, prompt)
    if chat == "llama2":
        return hf_tokenizer.prompt_ids(tokenizer, f"[INST]{prompt}[/INST]")
    return chat_ids(tokenizer, prompt)


def check_chat(tokenizer: Any, chat: str, model: Path) -> None:
    """Refuse ``template`` for a tokenizer without one.

    Raises:
        UserError: there is no chat template.
    """
    if chat == "template" and not has_chat_template(tokenizer):
        raise UserError(
            f"--chat template: the tokenizer of {model} has no chat template; use --chat none"
        )


def stop_ids(task: Task, tokenizer: Any) -> list[int] | None:
    """Return the tokens that end an answer; None for the model's own.

    Only SAMSum has others: the EOS and the newline, since models go on with another dialogue.
    """
    if task.name != "samsum":
        return None
    newline = tokenizer("\n", add_special_tokens=False).input_ids[-1:]
    return [*newline, *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])]
