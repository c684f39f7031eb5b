# SPDX-License-Identifier: Apache-2.0
"""Texts of another kind than the quickstart's, as JSON lines with id and text.

    python examples/domains/texts.py python --output FILE.jsonl
    apt-get download debian-handbook
    python examples/domains/texts.py french --package debian-handbook_*.deb --output FILE.jsonl

``python``: the modules of this Python's standard library, without its tests. ``french``: the French
pages of the Debian handbook, without their markup.
"""

import html
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error
from e2_common.outputs import OutputFile
from e2_tools.arguments import command_parser
from examples.common.packages import files_of
from examples.quickstart.prepare import write_jsonl

LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "lib2to3", "pydoc_data"}
PAGES = "usr/share/doc/debian-handbook/html/fr-FR/"


@exit_on_user_error
def main() -> None:
    """Parse the command line and write the file."""
    parser = command_parser(__doc__)
    parser.add_argument("kind", choices=("python", "french"))
    parser.add_argument("--package", type=Path, help="french: the .deb of debian-handbook")
    parser.add_argument("--output", type=OutputFile, required=True, help="JSON lines to write")
    args = parser.parse_args()
    if args.kind == "french" and not args.package:
        raise UserError("--package: missing; fetch it by: apt-get download debian-handbook")
    texts = sorted(modules() if args.kind == "python" else pages(args.package))
    write_jsonl(texts, args.output)


def modules() -> Iterator[tuple[str, str]]:
    """Name and source of every module of this Python's standard library."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in root.rglob("*.py"):
        inside = path.relative_to(root)
        if LEFT_OUT.isdisjoint(inside.parts):
            yield str(inside), path.read_text(encoding="utf-8", errors="replace")


def pages(package: Path) -> Iterator[tuple[str, str]]:
    """Name and text of every page.

    Raises:
        UserError: the file is no such package.
    """
    found = False
    for name, content in files_of(package):
        if name.startswith(PAGES) and name.endswith(".html"):
            found = True
            yield Path(name).stem, without_markup(content.read().decode("utf-8"))
    if not found:
        raise UserError(f"{package}: has no {PAGES}; is it debian-handbook?")


def without_markup(source: str) -> str:
    """The text of a page of HTML, without its head."""
    body = re.sub(r"<(script|style|head)\b.*?</\1>", "", source, flags=re.S)
    text = html.unescape(re.sub(r"<[^>]+>", "", body))
    return re.sub(r"\n\s*\n\s*", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    main()
