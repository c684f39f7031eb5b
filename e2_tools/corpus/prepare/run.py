# SPDX-License-Identifier: Apache-2.0
"""Convert a corpus record by record; broken ones are counted, good ones never lost."""

import argparse
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from e2_common.errors import UserError
from e2_common.files import atomic_file
from e2_common.outputs import same_file
from e2_common.progress import progress_bar
from e2_tools.corpus.compression import compressing, suffix_of
from e2_tools.corpus.inputs import JSON_LINES, TEXT, Source, find_sources, no_documents, note_empty
from e2_tools.corpus.prepare.corpora import UNUSED, Convert
from e2_tools.corpus.prepare.records import Broken, Record, read_records

# What preprocess_data.py reads as something else, or other tools.
_OTHER_KINDS = {".txt", ".parquet", ".bz2", ".zip", ".lz4", ".7z", ".Z"}
SHOWN = 3  # broken records of a kind that are named
_UNUSED_SHOWN = 20  # keys that are not used, at most


@dataclass
class Summary:
    """What was read and written.

    Attributes:
        read: records.
        written: records.
        left_out: good records that were not asked for.
        broken: records by reason.
        unused: keys of the records written that their texts do not show, and turns left out.
        characters: of the texts written.
        learnt: characters of them within ``loss_spans``; None if there are no spans.
    """

    read: int = 0
    written: int = 0
    left_out: int = 0
    broken: Counter = field(default_factory=Counter)
    unused: Counter = field(default_factory=Counter)
    characters: int = 0
    learnt: int | None = None

    def __str__(self) -> str:
        lines = [f"{self.read:,} records read, {self.written:,} written"]
        lines[0] += f" ({self.characters:,} characters)"
        if self.learnt is not None:
            share = self.learnt / max(self.characters, 1)
            lines.append(f"loss on {self.learnt:,} characters, {share:.1%}")
        if self.left_out:
            lines.append(f"{self.left_out:,} left out as asked")
        lines += [f"{count:,} broken: {reason}" for reason, count in self.broken.most_common()]
        if self.unused:
            shown = self.unused.most_common(_UNUSED_SHOWN)
            named = ", ".join(f"{key[:40]!r} {count:,}" for key, count in shown)
            more = len(self.unused) - len(shown)
            lines.append(f"not used: {named}" + (f" and {more:,} more" if more else ""))
        return "\n".join(lines)


def prepare(args: argparse.Namespace, convert: Convert) -> Summary:
    """Write the corpus as JSON lines.

    Args:
        args: of the command line.
        convert: of one record.

    Raises:
        UserError: a file cannot be read or written, nothing was good, or ``--on-error stop`` and a
            record is broken. Nothing is written then.
    """
    sources = find_sources(args.input)
    if args.corpus != "text":  # Cohan et al. call JSON lines .txt
        sources = [
            replace(source, kind=JSON_LINES) if source.kind == TEXT else source
            for source in sources
        ]
    output = args.output
    compression = suffix_of(str(output))
    _check_name(output, str(output).removesuffix(compression or ""))
    if any(same_file(source.path, output) for source in sources):
        raise UserError(f"--output {output}: is one of the inputs")
    summary = Summary()
    sizes = [source.size for source in sources]
    size = None if None in sizes else sum(sizes)
    with (
        atomic_file(output, "--output") as temporary,
        progress_bar(size, "B", delay=2) as bar,  # short runs show none
    ):
        with temporary.open("wb") as raw, contextlib.ExitStack() as stack:
            stream = compressing(raw, compression, stack)
            for record in _all_records(sources):
                bar.update(record.file_bytes)
                line = _line(record, args, convert, summary)
                if line is not None:
                    stream.write(line.encode("utf-8"))
                if args.max_documents and summary.written >= args.max_documents:
                    break
        if not summary.written:
            reasons = ", ".join(summary.broken) or "none was asked for"
            raise UserError(f"--input: no good record among {summary.read:,} ({reasons})")
    return summary


def _check_name(output: Path, uncompressed: str) -> None:
    """Refuse a name that says something else than JSON lines to whatever reads it."""
    if Path(uncompressed).suffix in _OTHER_KINDS:
        raise UserError(
            f"--output {output}: JSON lines are written, plain, .gz, .zst or .xz; name the file "
            f"{Path(uncompressed).with_suffix('.jsonl')}"
        )


def _all_records(sources: list[Source]) -> Iterator[Record]:
    empty = []
    for source in sources:
        any_record = False
        for record in read_records(source):
            any_record = True
            yield record
        if not any_record:
            empty.append(source)
    if len(empty) == len(sources):
        raise no_documents(empty[0])
    note_empty(empty)


def _line(
    record: Record, args: argparse.Namespace, convert: Convert, summary: Summary
) -> str | None:
    """Return the line to write of a record, if any, and count it."""
    summary.read += 1
    try:
        if isinstance(record.value, Broken):
            raise record.value
        result = convert(record.value)
        if result is None or len(result["text"]) < args.min_characters:
            summary.left_out += 1
            return None
        unused = result.pop(UNUSED, Counter())
        line = _json_line(result)
        _require_unicode(line)
    except (Broken, RecursionError) as broken:
        reason = str(broken) if isinstance(broken, Broken) else "nested too deep"
        if args.on_error == "stop":
            raise UserError(f"{record.where}: {reason}; mend it or use --on-error skip") from broken
        summary.broken[reason] += 1
        if summary.broken[reason] <= SHOWN:
            before = "\r\033[K" if sys.stderr.isatty() else ""  # over the bar
            print(f"{before}skipped {record.where}: {reason}", file=sys.stderr)
        return None
    summary.written += 1
    summary.unused += unused
    summary.characters += len(result["text"])
    if "loss_spans" in result:
        spans = result["loss_spans"]
        summary.learnt = (summary.learnt or 0) + sum(end - begin for begin, end in spans)
    return line


def _json_line(result: dict[str, Any]) -> str:
    try:
        return json.dumps(result, ensure_ascii=False) + "\n"
    except TypeError as error:  # a table's dates and bytes
        raise Broken("meta of what JSON has no form for") from error


def _require_unicode(line: str) -> None:
    try:
        line.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Broken("an unpaired surrogate") from error
