# SPDX-License-Identifier: Apache-2.0
"""Megatron's TikTokenizer: its flags, and what its vocabulary file must hold."""

import argparse
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2_common.errors import UserError

TIKTOKEN = "TikTokenizer"
REQUIRED = ("<unk>", "<s>", "</s>", "<mask>", "<pad>", "<cls>", "<sep>")
_MEGATRON_VOCABULARY = 1 << 17  # what Megatron takes --vocab-size to be if it is not given


@dataclass(frozen=True)
class TiktokenOptions:
    """What Megatron's tokenizer is told beside the file; the flags of the same names.

    Attributes:
        pattern: the expression that splits text, ``v1`` or ``v2``; None is Megatron's default, v2.
        num_special_tokens: ids before those of the file.
        special_tokens: the first of them by name, ``REQUIRED`` among them; None for these alone.
        vocab_size: ids in all; None is Megatron's default.
    """

    pattern: str | None = None
    num_special_tokens: int = 1000
    special_tokens: Sequence[str] | None = None
    vocab_size: int | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that Megatron gives to its tokenizer."""
        given = {"pattern": self.pattern, "vocab_size": self.vocab_size}
        return {
            "chat_template": None,
            "num_special_tokens": self.num_special_tokens,
            "special_tokens": None if self.special_tokens is None else list(self.special_tokens),
            **{name: value for name, value in given.items() if value},
        }

    def check(self, path: str) -> None:
        """Check that flags and file fit.

        Raises:
            UserError: they do not, or the package is missing.
        """
        names = REQUIRED if self.special_tokens is None else self.special_tokens
        missing = [name for name in REQUIRED if name not in names]
        if missing or len(set(names)) < len(names):
            what = f"lacks {', '.join(missing)}" if missing else "names a token twice"
            raise UserError(f"--tiktoken-special-tokens: {what}")
        if self.num_special_tokens < len(names):
            raise UserError(
                f"--tiktoken-num-special-tokens {self.num_special_tokens}: fewer than the "
                f"{len(names)} special tokens that have a name"
            )
        try:
            import tiktoken  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"--tokenizer-type {TIKTOKEN}: needs tiktoken (pip install tiktoken)"
            ) from error
        most = _tokens(path) + self.num_special_tokens
        size = self.vocab_size or _MEGATRON_VOCABULARY
        if not self.num_special_tokens + 256 <= size <= most:
            raise UserError(
                f"--vocab-size {size}{'' if self.vocab_size else ', the default'}: {path} and "
                f"--tiktoken-num-special-tokens make {most:,} at most, and "
                f"{self.num_special_tokens + 256:,} at least"
            )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of Megatron that say how a tiktoken vocabulary is used."""
    group = parser.add_argument_group(f"--tokenizer-type {TIKTOKEN}, as in Megatron")
    group.add_argument("--tiktoken-pattern", choices=("v1", "v2"), help="the expression that "
                       "splits text (default: v2)")  # fmt: skip
    group.add_argument("--tiktoken-num-special-tokens", type=int, metavar="N", help="ids before "
                       "those of the file (default: 1000)")  # fmt: skip
    group.add_argument("--tiktoken-special-tokens", "--tokenizer-special-tokens", nargs="+",
                       metavar="TOKEN", help="the first of them by name (default: "
                       f"{' '.join(REQUIRED)}, which must be among them)")  # fmt: skip
    group.add_argument("--vocab-size", type=int, metavar="N", help="ids in all "
                       f"(default: {_MEGATRON_VOCABULARY})")  # fmt: skip


def take_options(flags: dict[str, Any], applies: bool) -> TiktokenOptions:
    """Take the flags of :func:`add_flags` out of ``flags``.

    Args:
        flags: of the command line, by name.
        applies: whether the tokenizer is tiktoken's.

    Raises:
        UserError: one is given that does not apply.
    """
    names = {
        "pattern": "tiktoken_pattern",
        "num_special_tokens": "tiktoken_num_special_tokens",
        "special_tokens": "tiktoken_special_tokens",
        "vocab_size": "vocab_size",
    }
    given = {field: flags.pop(name) for field, name in names.items()}
    given = {field: value for field, value in given.items() if value is not None}
    if given and not applies:
        flag = "--" + names[next(iter(given))].replace("_", "-")
        raise UserError(f"{flag}: only with --tokenizer-type {TIKTOKEN}")
    return TiktokenOptions(**given)


def _tokens(path: str) -> int:
    """Return how many tokens a vocabulary file holds."""
    form = f'a JSON list of {{"rank", "token_bytes", "token_str"}}, as {TIKTOKEN} needs it'
    try:
        listed = json.loads(Path(path).read_bytes())
        for rank, token in enumerate(listed):
            data = base64.b64decode(token["token_bytes"])
            if token.keys() != {"rank", "token_bytes", "token_str"} or token["rank"] != rank:
                raise ValueError(f"entry {rank}")
            if rank < 256 and data != bytes([rank]):
                raise ValueError(f"entry {rank} is not the byte {rank}")
    except OSError as error:
        raise UserError(f"--tokenizer-model {path}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"--tokenizer-model {path}: not {form} ({error})") from error
    return len(listed)
