# SPDX-License-Identifier: Apache-2.0
"""Names the test files that a change can break, nearest first, for ``make quick``.

    python -m tests.affected [--since REF]

Changed is what differs from REF, committed or not, and what git does not know yet. REF is where
this branch left its upstream; without an upstream it is HEAD. A test file is affected if it leads
to a changed module by imports, also by those of the conftest.py files above it, or if it names a
changed file or module: tests of commands start ``tools/x.py``.

Left to ``make test`` are the folders that start worlds and whole scripts, and what is farthest once
the picked files take more than BUDGET seconds. Prints the picked files on standard output and what
was left out on standard error.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.helpers import ROOT
from tests.helpers.costs import seconds
from tests.helpers.imports import graph, module_of, project_files

BUDGET = 50  # seconds of one core
LEFT_TO_MAKE_TEST = ("tests/distributed/", "tests/multihost/", "tests/end_to_end/")
RUN_ANYWAY = "tests/unit/"


def git(*arguments: str) -> list[str]:
    """Lines that git prints; none if it refuses."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def changed_files(since: str | None) -> set[str]:
    """Paths of what differs from ``since``, from the project's folder."""
    base = since or next(iter(git("merge-base", "HEAD", "@{upstream}")), "HEAD")
    return {*git("diff", "--name-only", base), *git("ls-files", "--others", "--exclude-standard")}


def dependencies(files: dict[str, Path], changed: set[str], root: Path) -> dict[str, set[str]]:
    """Module -> modules that it needs: imported, named, packages that changed, conftest.py."""
    needs = graph(files)
    for module, path in files.items():
        if module.startswith("tests."):
            needs[module] |= _named(path, files, root)
            folders = module.split(".")[:-1]
            above = (".".join([*folders[:n], "conftest"]) for n in range(1, len(folders) + 1))
            needs[module] |= {name for name in above if name in files and name != module}
        for name in list(needs[module]):
            parents = (name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1))
            needs[module] |= {parent for parent in parents if parent in changed} - {module}
    return needs


def _named(path: Path, files: dict[str, Path], root: Path) -> set[str]:
    """Modules that a test has in its text, as ``tools/x.py`` or as ``e2_tools.corpus.x``."""
    text = path.read_text(encoding="utf-8")
    places = {str(file.relative_to(root)): name for name, file in files.items()}
    found = {places[place] for place in re.findall(r"[\w/]+\.py", text) if place in places}
    dotted = re.findall(r"\b(?:e2_\w+|megatron_patches)(?:\.\w+)+", text)
    return found | {name for name in map(module_of, dotted, [files] * len(dotted)) if name}


def affected(changed: Iterable[str], root: Path = ROOT) -> dict[str, int]:
    """Test file -> how many steps it is from a change, nearest first."""
    files = project_files(root)
    paths = {name: str(path.relative_to(root)) for name, path in files.items()}
    changed = set(changed)
    others = [place for place in changed if place not in paths.values()]
    distance = {
        name: 0
        for name, path in paths.items()
        if path in changed
        or name.startswith("tests.")
        and any(place in files[name].read_text(encoding="utf-8") for place in others)
    }
    needs = dependencies(files, set(distance), root)
    frontier = set(distance)
    while frontier:
        frontier = {name for name in needs if name not in distance and needs[name] & frontier}
        distance |= dict.fromkeys(frontier, max(distance.values()) + 1)
    tests = {paths[name]: steps for name, steps in distance.items()}
    tests = {path: steps for path, steps in tests.items() if Path(path).name.startswith("test_")}
    return dict(sorted(tests.items(), key=lambda item: (item[1], item[0])))


def choose(tests: Iterable[str], budget: float = BUDGET) -> tuple[list[str], list[str]]:
    """(picked, left out) of test files, nearest first, within the seconds of the budget."""
    picked, left = [], []
    for path in tests:
        if path.startswith(RUN_ANYWAY):
            continue
        if path.startswith(LEFT_TO_MAKE_TEST) or seconds(path) > budget:
            left.append(path)
        else:
            picked.append(path)
            budget -= seconds(path)
    return picked, left


def main() -> None:
    """Print what ``make quick`` runs beside the unit tests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--since", metavar="REF", help="compare with REF")
    picked, left = choose(affected(changed_files(parser.parse_args().since)))
    for heading, paths in (("affected:", picked), ("affected, left to make test:", left)):
        print("\n    ".join([heading, *(paths or ["none"])]), file=sys.stderr)
    print(" ".join(picked))


if __name__ == "__main__":
    main()
