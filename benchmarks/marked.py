# SPDX-License-Identifier: Apache-2.0
"""Parts of a page that a command writes: what stands between two comments."""

from pathlib import Path

from e2_common.files import atomic_file


def filled(text: str, begin: str, end: str, content: str) -> str:
    """A page with new content between its comments ``begin`` and ``end``.

    Raises:
        ValueError: it has not both.
    """
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the page has no {begin} and {end}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def write(page: Path, begin: str, end: str, content: str) -> None:
    """Write new content between the comments of a page; see :func:`filled`."""
    text = filled(page.read_text(encoding="utf-8"), begin, end, content)
    with atomic_file(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
