# SPDX-License-Identifier: Apache-2.0
"""One prompt from a file, answered on stdout."""

import argparse
import math
import sys
from typing import Any

from transformers import TextStreamer

from e2_common.errors import UserError
from e2_common.files import read_text
from e2_common.hf_tokenizer import load_hf_tokenizer, prompt_ids
from e2_llm.window import Config, base_window, window_note, with_scale
from e2_tools.evaluation import model as models
from e2_tools.evaluation.chat import chat_ids, has_chat_template
from transformers_patches.generation import generate, scale_of_request


def answer(args: argparse.Namespace) -> None:
    """Do what the command line of ``generate.py`` asks for.

    Args:
        args: its parsed arguments.

    Raises:
        UserError: anything about the model or the prompt that the user can mend.
    """
    config = models.config_of(args)
    path = args.prompt_file
    from_stdin = str(path) == "-"
    text = (
        sys.stdin.buffer.read().decode("utf-8", errors="replace")
        if from_stdin
        else read_text(path, "--prompt-file")
    )
    if not text.strip():
        raise UserError(f"--prompt-file {path}: is empty; put a text into it")
    tokenizer = load_hf_tokenizer(args.model)
    ids = _tokens(tokenizer, text.removesuffix("\n"), args)
    scale = scale_of_request(config, len(ids), args.max_new_tokens, args.scale)
    load = models.model_loader(args)
    print(_told(config, scale, len(ids), args.max_new_tokens), file=sys.stderr)
    model = load()
    streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    fixed = "none" if scale is None else scale
    generate(model, [ids], args.max_new_tokens, config=config, scale=fixed, streamer=streamer)


def _tokens(tokenizer: Any, text: str, args: argparse.Namespace) -> list[int]:
    if not args.chat:
        return prompt_ids(tokenizer, text)
    if not has_chat_template(tokenizer):
        raise UserError(f"--chat: the tokenizer of {args.model} has no chat template; drop it")
    return chat_ids(tokenizer, text)


def _told(config: Config, scale: float | None, prompt: int, new: int) -> str:
    """What is told before the prompt is read."""
    size = f"{prompt:,} prompt tokens + up to {new:,} new"
    if scale is None:
        return f"{size}: the model's own RoPE"
    base = base_window(config)
    note = window_note(with_scale(config, scale, math.ceil(scale * base)))
    return f"{size}: g = {scale:g} (L = {base:,})" + (f"; note: {note}" if note else "")
