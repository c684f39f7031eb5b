# SPDX-License-Identifier: Apache-2.0
"""Imports are read from text: every form of them, also within functions."""

from tests.helpers.imports import graph, imported_names, project_files


def write(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_form_of_an_import_is_read(tmp_path):
    text = (
        "import a.b as c, d\nfrom e import f as g, h\nfrom . import i\nfrom .j import k\n"
        "from ..l import m\ndef late():\n    import n\nCODE = 'import o'\n"
        "if TYPE_CHECKING:\n    import p\n"
    )
    path = write(tmp_path, "x/y/z.py", text)
    expected = ["a.b", "d", "e.f", "e.h", "x.y.i", "x.y.j.k", "x.l.m", "n"]
    assert list(imported_names(path, "x.y.z")) == [*expected, "p"]
    assert list(imported_names(path, "x.y.z", types=False)) == expected
    path = write(tmp_path, "x/y/__init__.py", "from . import i\nfrom ..l import m\n")
    assert list(imported_names(path, "x.y")) == ["x.y.i", "x.l.m"]


def test_names_lead_to_the_modules_that_hold_them(tmp_path):
    write(tmp_path, "e2_llm/__init__.py", "")
    write(tmp_path, "e2_llm/low.py", "import torch\n")
    write(tmp_path, "e2_llm/high.py", "from e2_llm import low, VERSION\n")
    write(tmp_path, "tests/test_it.py", "def test():\n    from e2_llm.high import thing\n")
    write(tmp_path, "examples/quickstart/out/noise.py", "not Python\n")
    assert graph(project_files(tmp_path)) == {
        "e2_llm": set(),
        "e2_llm.low": set(),
        "e2_llm.high": {"e2_llm", "e2_llm.low"},
        "tests.test_it": {"e2_llm.high"},
    }
