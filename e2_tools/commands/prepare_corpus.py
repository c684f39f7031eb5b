# SPDX-License-Identifier: Apache-2.0
"""Turn a public corpus, as it is released, into JSON lines for tools/preprocess_data.py."""

import argparse
import sys
from collections.abc import Sequence

from e2_common.errors import UserError, exit_on_user_error
from e2_common.outputs import OutputFile
from e2_tools.arguments import check_counts, command_parser
from e2_tools.corpus.prepare import corpora
from e2_tools.corpus.prepare.chat import TEMPLATES
from e2_tools.corpus.prepare.run import prepare

CORPORA = {
    "pile": (corpora.Pile, "the Pile's .jsonl.zst: text and meta"),
    "sharegpt": (corpora.sharegpt, "ShareGPT's JSON or JSON lines: conversations"),
    "longsum": (corpora.longsum, "arXiv and PubMed summarization of Cohan et al. 2018"),
    "text": (corpora.plain, "text files, one a document, or JSON lines with text"),
}


def build_parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    parser = command_parser(
        __doc__,
        epilog="Broken records are skipped, counted by reason, and the first of each reason named.",
    )
    commands = parser.add_subparsers(dest="corpus", required=True, metavar="CORPUS")
    for name, (_, text) in CORPORA.items():
        command = commands.add_parser(name, help=text, description=text)
        _add_common(command)
        if name == "pile":
            command.add_argument("--subsets", nargs="+", metavar="NAME", help="keep only these, "
                                 "by pile_set_name")  # fmt: skip
            command.add_argument("--exclude-subsets", nargs="+", metavar="NAME", help="leave out")
        if name == "sharegpt":
            which = command.add_mutually_exclusive_group()
            which.add_argument("--chat-template", choices=sorted(TEMPLATES), default="vicuna",
                               help="how turns become text (default: %(default)s)")  # fmt: skip
            which.add_argument("--tokenizer-model", metavar="DIR", help="take the chat template "
                               "of this Hugging Face tokenizer")  # fmt: skip
        if name == "longsum":
            command.add_argument(
                "--template",
                default="{article}\n\nSummary: {summary}",
                help="text with {article} and then {summary} (default: %(default)r)",
            )
        if name == "text":
            command.add_argument("--strip-gutenberg", action="store_true", help="cut Project "
                                 "Gutenberg's header and licence")  # fmt: skip
        if name in ("sharegpt", "longsum"):
            command.add_argument(
                "--loss-on",
                choices=[corpora.ALL, corpora.ASSISTANT],
                default=corpora.ALL,
                help="assistant: write loss_spans, so that with preprocess_data.py "
                "--loss-mask-key loss_spans only answers (summaries) count (default: all)",
            )
    return parser


def _add_common(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--input", nargs="+", required=True, metavar="FILE", help="files or glob patterns, "
        "`-` for standard input; .parquet by rows; .gz, .zst and .xz are decompressed")  # fmt: skip
    add(
        "--output",
        type=OutputFile,
        required=True,
        metavar="FILE.jsonl",
        help="written whole or not at all; compressed if the name ends in .gz, .zst or .xz",
    )
    add("--max-documents", type=int, metavar="N", help="stop after so many")
    add("--min-characters", type=int, default=1, metavar="N", help="leave out shorter texts")
    add(
        "--on-error",
        choices=["skip", "stop"],
        default="skip",
        help="what a broken record does (default: skip); a damaged file always stops",
    )


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; print what was read, written and skipped.

    Exit codes: 0 done, 2 bad input or flags, 130 interrupted. Nothing is written unless 0.
    """
    args = build_parser().parse_args(argv)
    if args.corpus == "longsum" and not (
        0 <= args.template.find("{article}") < args.template.find("{summary}")
    ):
        raise UserError(f"--template {args.template!r}: needs {{article}} and then {{summary}}")
    check_counts(args, ["max_documents"])
    convert = CORPORA[args.corpus][0](args)
    print(prepare(args, convert))
    for note in convert.notes() if isinstance(convert, corpora.Pile) else ():
        print(f"note: {note}", file=sys.stderr)
