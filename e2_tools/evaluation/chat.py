# SPDX-License-Identifier: Apache-2.0
"""A prompt in the chat template of the model's tokenizer."""

from typing import Any


def has_chat_template(tokenizer: Any) -> bool:
    """Whether a transformers tokenizer has a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def chat_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a user's message, up to where the answer begins."""
    message = [{"role": "user", "content": text}]
    prompt = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    return tokenizer(prompt, add_special_tokens=False).input_ids  # the template has its own BOS
