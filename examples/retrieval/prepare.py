# SPDX-License-Identifier: Apache-2.0
"""Data of the retrieval example: windows of made-up words as JSON lines, and their tokenizer.

    python examples/retrieval/prepare.py --output DIR --length 64 --windows 96000 [--seed 0]

writes DIR/train_64.jsonl, a window a line, and DIR/tokenizer/, a token a word. ``learnt`` says what
a window tells a second time: only that counts in the loss.
"""

import json
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error
from e2_common.files import atomic_directory, atomic_file
from e2_tools.arguments import command_parser, count_argument
from e2_tools.evaluation.recall.words import SPAN, WORDS, training_windows

EOD = "<|endoftext|>"


@exit_on_user_error
def main() -> None:
    """Parse the command line and write the files."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--output", type=Path, required=True, help="folder to write to")
    add("--length", type=count_argument, required=True, help="of a window, in words")
    add("--windows", type=count_argument, required=True, help="how many")
    add("--seed", type=int, default=0, help="of the windows")
    args = parser.parse_args()
    if args.length < 3 * SPAN:
        raise UserError(f"--length {args.length}: must be at least {3 * SPAN}")
    path = args.output / f"train_{args.length}.jsonl"
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for window in training_windows(args.length, args.windows, args.seed):
            file.write(json.dumps({"text": window.text, "learnt": window.learnt}) + "\n")
    print(f"{path}: {args.windows:,} windows of {args.length} words")
    tokenizer = args.output / "tokenizer"
    if not tokenizer.exists():
        write_tokenizer(tokenizer)


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer whose tokens are the words of the language, and one more."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate((EOD, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=EOD))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with atomic_directory(folder) as temporary:
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOD).save_pretrained(
            temporary
        )


if __name__ == "__main__":
    main()
