# SPDX-License-Identifier: Apache-2.0
"""Reads which module imports which, from the text of the project's files; nothing is imported."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.helpers import ROOT

# From the ground up; the two engines stand side by side.
PACKAGES = ("e2_common", "e2_llm", "transformers_patches", "megatron_patches", "e2_tools")
ENGINES = ("transformers_patches", "megatron_patches")
SCRIPTS = ("tools", "examples", "benchmarks", "tests", "pretrain_e2", "train_e2_hf")


def project_files(root: Path = ROOT) -> dict[str, Path]:
    """Name -> file of every Python module of the project, tests and scripts too."""
    paths = [*root.glob("*.py")]
    for folder in (*PACKAGES, *SCRIPTS):
        paths += (root / folder).rglob("*.py")
    found = {}
    for path in sorted(paths):
        parts = path.relative_to(root).with_suffix("").parts
        if "out" not in parts:  # what the examples write
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imported_names(path: Path, module: str, types: bool = True) -> Iterator[str]:
    """Every name that a file imports, dotted and absolute, also within functions.

    ``from a import b`` gives ``a.b``, which may be a module or something in it. Without ``types``
    what stands under ``if TYPE_CHECKING:`` is left out: it is never imported.
    """
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in _statements(ast.parse(path.read_text(encoding="utf-8")), types):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *filter(None, [node.module])]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def _statements(node: ast.AST, types: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if types or not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from _statements(child, types)


def graph(files: dict[str, Path]) -> dict[str, set[str]]:
    """Module -> the project's modules that it imports."""
    return {
        module: {
            found
            for name in imported_names(path, module, types=False)
            if (found := module_of(name, files)) and found != module
        }
        for module, path in files.items()
    }


def module_of(name: str, files: dict[str, Path]) -> str | None:
    while name not in files and "." in name:
        name = name.rpartition(".")[0]
    return name if name in files else None
