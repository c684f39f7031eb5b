# SPDX-License-Identifier: Apache-2.0
"""Our methods beside their authors' own code: the same numbers, the same distributions?

    python benchmarks/official_code.py --repositories DIR [--page docs/official_code.md]

DIR has a clone of each repository that docs/official_code.md lists. Their functions are executed as
they stand there, at the commit of the table. A method whose clone is missing is skipped, and said
so. The exit code is 1 where ours differs.
"""

import sys
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error
from e2_common.files import atomic_file
from e2_tools.arguments import command_parser, count_argument

START, END = "<!-- written by benchmarks/official_code.py -->", "<!-- end -->"
LEAST_DRAWS = 100  # below them a test of a distribution says nothing


@exit_on_user_error
def main() -> int:
    """Compare, print the table, write it into the page."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--repositories", type=Path, required=True, metavar="DIR", help="folder of the clones")
    add("--draws", type=count_argument, default=4000, help="draws a sample; default %(default)s")
    add("--page", type=Path, help="Markdown file whose table is rewritten, if none was skipped")
    args = parser.parse_args()
    if not args.repositories.is_dir():
        raise UserError(f"--repositories {args.repositories}: no such folder")
    if args.draws < LEAST_DRAWS:
        raise UserError(f"--draws {args.draws}: must be at least {LEAST_DRAWS}")
    page = args.page and parts_of(args.page)
    from benchmarks.official.table import markdown, rows

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    found = list(rows(args.repositories, args.draws, tell))
    if all(row.finding is None for row in found):
        raise UserError(
            f"--repositories {args.repositories}: has none of the clones of docs/official_code.md"
        )
    print(markdown(found))
    differing = [row for row in found if row.finding and not row.finding.agrees]
    skipped = [row for row in found if row.finding is None]
    if page and skipped:
        many = "1 method was" if len(skipped) == 1 else f"{len(skipped)} methods were"
        tell(f"{args.page} stays as it is: {many} skipped")
    elif page:
        before, after = page
        with atomic_file(args.page) as temporary:
            text = f"{before}{START}\n\n{markdown(found)}\n\n{END}{after}"
            temporary.write_text(text, encoding="utf-8")
    return 1 if differing else 0


def parts_of(page: Path) -> tuple[str, str]:
    """What stands before and after the table of a page.

    Raises:
        UserError: it is no page with a place for the table.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise UserError(f"--page {page}: no file with the lines {START} and {END}")
    return before, after


if __name__ == "__main__":
    sys.exit(main())
