# SPDX-License-Identifier: Apache-2.0
"""Real text for the benchmarks, some 230 MB, out of packages that every Debian mirror has.

    apt-get download linux-source-6.1 linux-doc-6.1 dict-gcide
    python benchmarks/debian_text.py *.deb --output text.jsonl

takes a part of the kernel's source files, its documentation, and a dictionary of English in pieces
of 8,000 characters; files that appear twice count once. The order is that of the texts' digests, so
that every stretch of the output is alike.
"""

import gzip
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from e2_common.errors import exit_on_user_error
from e2_common.files import atomic_file
from e2_common.outputs import OutputFile
from e2_tools.arguments import command_parser
from examples.common.packages import files_of

PROSE = (".txt", ".rst", ".md")
CODE = (".c", ".h", ".S", ".py", ".sh")
CODE_SHARE = 5  # one source file of so many is taken
TABLES = "drm/amd/include/"  # hundreds of megabytes of register numbers
PIECE = 8000  # characters of the dictionary in a document


def documents(package: Path) -> Iterator[str]:
    """The texts of a .deb file.

    Raises:
        UserError: it is none.
    """
    return _texts(files_of(package))


def _texts(files: Iterable[tuple[str, IO[bytes]]]) -> Iterator[str]:
    for name, stream in files:
        if name.endswith(".tar.xz"):
            with tarfile.open(fileobj=stream, mode="r|xz") as inner:
                members = filter(tarfile.TarInfo.isfile, inner)
                yield from _texts((one.name, inner.extractfile(one)) for one in members)
            continue
        is_dictionary = name.endswith(".dict.dz")
        plain = name.removesuffix(".gz")
        if not (is_dictionary or plain.endswith(PROSE + CODE)) or TABLES in name:
            continue
        data = stream.read()
        if name.endswith((".gz", ".dz")):
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read()
        # The dictionary has a few letters of another encoding.
        text = data.decode("utf-8", "replace" if is_dictionary else "ignore")
        if is_dictionary:
            yield from (text[i : i + PIECE] for i in range(0, len(text), PIECE))
        elif plain.endswith(PROSE) or _digest(text)[0] % CODE_SHARE == 0:
            yield text


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@exit_on_user_error
def main() -> None:
    """Write the texts, say how much they are."""
    parser = command_parser(__doc__)
    parser.add_argument("packages", nargs="+", type=Path, metavar="DEB")
    parser.add_argument("--output", type=OutputFile, required=True, metavar="FILE.jsonl")
    args = parser.parse_args()
    texts = {}
    for package in args.packages:
        for text in documents(package):
            if text.strip():
                texts[_digest(text)] = text
        print(f"{package.name}: {len(texts):,} documents so far", file=sys.stderr)
    with atomic_file(args.output) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for digest in sorted(texts):
            stream.write(json.dumps({"text": texts[digest]}, ensure_ascii=False) + "\n")
        size = stream.tell()
    print(f"{len(texts):,} documents, {size / 1e6:.1f} MB: {args.output}")


if __name__ == "__main__":
    main()
