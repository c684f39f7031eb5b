# SPDX-License-Identifier: Apache-2.0
"""A prompt in the chat template of the model's tokenizer."""

from pathlib import Path
from typing import Any

from e2_common.errors import UserError

_MESSAGE = "\ue000"  # of the private use area: no template has it


def has_chat_template(tokenizer: Any) -> bool:
    """Whether a transformers tokenizer has a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def chat_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a user's message, up to where the answer begins."""
    prompt = _prompt(tokenizer, text)
    return tokenizer(prompt, add_special_tokens=False).input_ids  # the template has its own BOS


def around_message(tokenizer: Any, model: Path) -> tuple[str, str]:
    """Return what the chat template puts before a user's message, and behind it up to the answer.

    Raises:
        UserError: the tokenizer of ``model`` has no chat template, or one that changes messages.
    """
    if not has_chat_template(tokenizer):
        raise UserError(f"--chat: the tokenizer of {model} has no chat template; drop it")
    before, found, behind = _prompt(tokenizer, _MESSAGE).partition(_MESSAGE)
    if not found or _MESSAGE in behind:
        raise UserError(f"--chat: the chat template of {model} changes messages; drop it")
    return before, behind


def _prompt(tokenizer: Any, text: str) -> str:
    message = [{"role": "user", "content": text}]
    return tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
