# SPDX-License-Identifier: Apache-2.0
"""Which of Megatron's arguments does a run of pretrain_e2.py read? Found in the source, not run.

An argument is read where code that such a run can reach loads it from the parsed arguments, or
where it is a field of one of Megatron's configurations and something loads that field. What the
parsing itself reads counts if it decides what another argument becomes; an assertion does not use
what it checks.
"""

import ast
import dataclasses
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = ("pretrain_e2", "megatron_patches", "e2_llm")
PARSING = "megatron.training.arguments"
# Read instead of the parser's arguments with --yaml-cfg.
NOT_READING = (PARSING, "megatron.training.yaml_arguments")


class Source:
    """The parsed modules that a run can reach, from pretrain_e2.py on."""

    def __init__(self) -> None:
        self.trees: dict[str, ast.Module] = {}
        waiting = list(_ours())
        while waiting:
            name = waiting.pop()
            if name in self.trees:
                continue
            path = _file(name)
            if path is None:
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            self.trees[name] = tree
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            waiting += [found for found in _imports(tree, package) if found not in self.trees]

    def reading(self) -> Iterator[ast.Module]:
        """The modules that use arguments, not those that parse them."""
        return (tree for name, tree in self.trees.items() if name not in NOT_READING)

    def read(self, fields: Iterable[str]) -> set[str]:
        """Every argument that is read.

        Args:
            fields: names of the fields of configurations that are filled from arguments.
        """
        found: set[str] = set()
        loaded: set[str] = set()
        for tree in self.reading():
            for owner, name in _loads(tree):
                loaded.add(name)
                if owner in ("args", "early", "arguments", "get_args"):
                    found.add(name)
        found |= loaded.intersection(fields)
        return found | _decide(self.trees[PARSING], found)


def fields_of(*kinds: type) -> set[str]:
    """Names of the fields of dataclasses."""
    return {field.name for kind in kinds for field in dataclasses.fields(kind)}


def _ours() -> Iterator[str]:
    for path in [ROOT / "pretrain_e2.py", *(ROOT / "megatron_patches").rglob("*.py")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__")


def _file(module: str) -> Path | None:
    if module.split(".")[0] not in ("megatron", *OURS):
        return None
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError):  # a name in a module, or an optional package
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            name = ".".join([*(base if node.level else []), *filter(None, [node.module])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def _loads(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(owner, name) of every attribute that is read, also by ``getattr`` and its kind."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield _owner(node.value), node.attr
        elif isinstance(node, ast.Call) and _owner(node.func) in ("getattr", "hasattr"):
            if len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
                yield _owner(node.args[0]), str(node.args[1].value)


def _owner(node: ast.AST) -> str:
    """The last name of an expression: ``args`` of ``args``, ``self.args`` and ``get_args()``."""
    if isinstance(node, ast.Call):
        return _owner(node.func)
    return getattr(node, "attr", getattr(node, "id", ""))


def _decide(parsing: ast.Module, used: set[str]) -> set[str]:
    """Arguments from which the parsing makes others that are used."""
    makes: dict[str, set[str]] = {}
    for node in ast.walk(parsing):
        if isinstance(node, ast.If):
            read, written = _names(node.test), _written(node.body + node.orelse)
        elif isinstance(node, ast.Assign):
            read, written = _names(node.value), _written([node])
        else:
            continue
        for name in read:
            makes.setdefault(name, set()).update(written - {name})
    found: set[str] = set()
    while True:
        more = {name for name, made in makes.items() if made & (used | found)} - found - used
        if not more:
            return found
        found |= more


def _names(node: ast.AST) -> set[str]:
    return {name for owner, name in _loads(node) if owner == "args"}


def _written(nodes: list[ast.stmt]) -> set[str]:
    return {
        node.attr
        for statement in nodes
        for node in ast.walk(statement)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and _owner(node.value) == "args"
    }
