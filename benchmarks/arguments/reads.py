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
# The second is read instead of the parser's arguments with --yaml-cfg.
NOT_READING = (PARSING, "megatron.training.yaml_arguments")
# ``emerging_optimizers`` puts the names together of this and the parameters of a class.
BEGINNINGS = frozenset({"muon"})
# Imported by what a run imports, and never reached by one that trains a GPT model.
NOT_REACHED = (
    "megatron.core.export",
    "megatron.core.inference",
    "megatron.core.models.hybrid",
    "megatron.core.models.bert",
    "megatron.core.models.T5",
    "megatron.core.models.mamba",
    "megatron.core.models.mimo",
    "megatron.core.models.multimodal",
    "megatron.core.models.vision",
    "megatron.core.post_training",
    "megatron.core.ssm.mamba",
    "megatron.core.tensor_parallel.inference_layers",
    "megatron.core.tokenizers.vision",
    "megatron.post_training",
    "megatron.rl",
    "megatron.training.config.inference_config",
    "megatron.training.inprocess_restart",
    "megatron.training.models.hybrid",
)


# Parts of names of modules that are not the first to be named where an argument is read.
LOOK_ON = ("config", "argument_utils", "transformer_engine", "fp4", "fp8", "cuda_graph", "owners",
           "heterogeneous", "experimental", "memory_usage", "one_logger", "e2_llm")  # fmt: skip


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

    def reading(self) -> Iterator[tuple[str, ast.Module]]:
        """The modules that use arguments, not those that parse them, by their names."""
        return (item for item in self.trees.items() if item[0] not in NOT_READING)

    def read(self, fields: Iterable[str]) -> dict[str, str]:
        """Every argument that is read, and a module that reads it.

        Args:
            fields: names of the fields of configurations that are filled from arguments.
        """
        wanted = set(fields)
        places: dict[str, str] = {}
        for module, tree in self.reading():
            for owner, name in _loads(tree):
                if name in wanted or owner in ("args", "early", "arguments", "get_args"):
                    _keep(places, name, module)
        for module, tree in self.reading():  # by a loop over names, or over names that begin alike
            if module.startswith("megatron."):
                for name in _said(tree, wanted):
                    places.setdefault(name, module)
        for name in _decide(self.trees[PARSING], set(places)):
            places[name] = PARSING
        return places


def _keep(places: dict[str, str], name: str, module: str) -> None:
    """Of the modules that read an argument keep the one that says most."""
    if name not in places or _says_little(places[name]) > _says_little(module):
        places[name] = module


def _says_little(module: str) -> tuple[bool, bool, str]:
    """For sorting: what only passes arguments on or looks at them is last, ours is first."""
    looks_on = any(word in module for word in LOOK_ON)
    return looks_on, not module.startswith(OURS), module


def _said(tree: ast.Module, names: set[str]) -> Iterator[str]:
    words = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    yield from words & names
    for beginning in BEGINNINGS.intersection(words):
        yield from (name for name in names if name.startswith(f"{beginning}_"))


def fields_of(*kinds: type) -> set[str]:
    """Names of the fields of dataclasses."""
    return {field.name for kind in kinds for field in dataclasses.fields(kind)}


def _ours() -> Iterator[str]:
    for path in [ROOT / "pretrain_e2.py", *(ROOT / "megatron_patches").rglob("*.py")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__")


def _file(module: str) -> Path | None:
    if module.split(".")[0] not in ("megatron", *OURS) or module.startswith(NOT_REACHED):
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
            owner, name = node.args[:2]
            if isinstance(name, ast.Constant):
                yield _owner(owner), str(name.value)


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
