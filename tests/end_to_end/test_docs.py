# SPDX-License-Identifier: Apache-2.0
"""README, CONTRIBUTING and docs: their form, their links, and what they promise to list."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("**/*.md")),
]
COLUMNS = 120
README_LINES = 150
FENCE = re.compile(r"^```.*?^```$", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# `path/of/a_module.py`: `name`, `other_name`
NAMES = re.compile(r"`((?:\w+/)+\w+(?:\.py)?)`: ((?:`\w+`(?:, )?)+)")


def read(page):
    return page.read_text(encoding="utf-8")


def name(page):
    return str(page.relative_to(ROOT))


def anchors(page):
    """What GitHub makes of the headings: lower case, spaces to hyphens, no punctuation."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", read(page)), flags=re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while f"{slug}-{number}" in found if number else slug in found:
            number += 1
        found.add(f"{slug}-{number}" if number else slug)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_line_is_too_long(page):
    long = [
        f"{name(page)}:{number} has {len(line)} columns"
        for number, line in enumerate(read(page).splitlines(), 1)
        if len(line) > COLUMNS
    ]
    assert not long


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page):
    broken = []
    for link in LINK.findall(FENCE.sub("", read(page))):
        target, _, anchor = link.partition("#")
        if re.match(r"https?://", link):
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    assert not broken


def test_the_readme_is_short():
    assert len(read(PAGES[0]).splitlines()) <= README_LINES


def test_every_page_is_in_the_index():
    index = ROOT / "docs" / "README.md"
    linked = {
        (index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(read(index))
    }
    unlinked = [page for page in PAGES if page != index and page.resolve() not in linked]
    # A page with places for results to come is a draft: nothing links it, until they are filled.
    drafts = [page for page in PAGES if re.search("^TABLE: ", read(page), flags=re.MULTILINE)]
    assert unlinked == drafts


def test_every_flag_is_in_the_table():
    from e2_llm.config import E2Config, flag_name
    from megatron_patches.kernels.registry import PARTS

    page = read(ROOT / "docs" / "flags.md")
    flags = [
        flag_name(key) for key, field in E2Config.__dataclass_fields__.items() if field.metadata
    ]
    missing = [flag for flag in [*flags, *(part.flag for part in PARTS)] if f"`{flag}`" not in page]
    assert not missing


def test_every_command_is_in_the_table():
    from e2_tools.cli import VERBS

    page = read(ROOT / "docs" / "commands.md")
    assert [verb for verb in VERBS if f"| `{verb}` |" not in page] == []


def test_the_walks_name_what_is_there():
    """docs/architecture.md: every function and class, in the file that it is said to be in."""
    text = " ".join(read(ROOT / "docs" / "architecture.md").split())
    walks = NAMES.findall(text)
    assert len(walks) > 30
    for path, names in walks:
        file = ROOT / path  # without .py it may be a module or a package
        file = file if file.exists() else file.with_suffix(".py")
        code = "".join(map(read, [file] if file.is_file() else sorted(file.rglob("*.py"))))
        for word in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^\s*(?:def|class) {word}\b", code, flags=re.MULTILINE), (path, word)


def test_named_files_are_there():
    """Of the packages; without .py it may be a module or a package."""
    packages = "e2_common|e2_llm|e2_tools|megatron_patches|transformers_patches"
    for page in PAGES:
        for path in re.findall(rf"`((?:{packages})/[\w/]*(?:\.py)?)`", read(page)):
            assert (ROOT / path).exists() or (ROOT / f"{path}.py").exists(), (name(page), path)


def test_named_tests_are_there():
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    for page in PAGES:
        assert set(re.findall(r"test_\w+\.py", read(page))) <= there, name(page)
