# SPDX-License-Identifier: Apache-2.0
"""Arrows point down: e2_common < e2_llm < the engines < e2_tools < scripts; no circles."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.helpers.imports import ENGINES, PACKAGES, SCRIPTS, graph, imported_names, project_files

FILES = project_files()


def within(*packages):
    return {name: path for name, path in FILES.items() if name.split(".")[0] in packages}


def test_everything_is_read():
    assert {name.split(".")[0] for name in FILES} == {*PACKAGES, *SCRIPTS}
    assert len(within(*PACKAGES)) > 100


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_none_above_it_and_no_script(package):
    above = {*PACKAGES[PACKAGES.index(package) + 1 :], *SCRIPTS}
    wrong = [
        f"{module} imports {name}"
        for module, path in within(package).items()
        for name in imported_names(path, module)
        if name.split(".")[0] in above
    ]
    assert not wrong


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_does_not_know_the_other(engine):
    others = {*ENGINES} - {engine} | ({"megatron"} if engine == "transformers_patches" else set())
    wrong = [
        f"{module} imports {name}"
        for module, path in within(engine).items()
        for name in imported_names(path, module)
        if name.split(".")[0] in others
    ]
    assert not wrong


def test_the_method_needs_numpy_and_torch_alone():
    allowed = {"e2_common", "e2_llm", "numpy", "torch", *sys.stdlib_module_names}
    wrong = [
        f"{module} imports {name}"
        for module, path in within("e2_llm").items()
        for name in imported_names(path, module)
        if name.split(".")[0] not in allowed
    ]
    assert not wrong


def test_no_module_imports_itself_by_a_detour():
    circle = None
    try:
        TopologicalSorter(graph(within(*PACKAGES))).prepare()
    except CycleError as error:
        circle = " imports ".join(reversed(error.args[1]))
    assert circle is None


def test_only_the_faces_of_commands_look_for_the_project():
    """Whatever else changes sys.path would hide that a module is not installed."""
    # The one for a package that it has just downloaded, the other as a Python begins a program.
    another_reason = {"examples.smollm2_135m.get_model", "tests.helpers.quick_python"}

    def changes_the_path(node):
        target = getattr(node, "func", node)
        return isinstance(node, ast.Call | ast.Assign | ast.AugAssign) and (
            "sys.path" in ast.unparse(target).split("=")[0]
        )

    wrong = [
        str(path)
        for name, path in FILES.items()
        if not name.startswith("tools.") and name not in another_reason
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if changes_the_path(node)
    ]
    assert not wrong
