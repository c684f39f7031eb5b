# SPDX-License-Identifier: Apache-2.0
"""Which tests `make quick` picks for a change."""

import pytest

from tests import affected as module
from tests.affected import affected, choose
from tests.helpers import ROOT
from tests.helpers.costs import SECONDS

FILES = {
    "e2_llm/__init__.py": "",
    "e2_llm/low.py": "",
    "e2_llm/high.py": "import e2_llm.low\n",
    "e2_tools/commands/show.py": "def main():\n    from e2_llm.high import it\n",
    "tools/show.py": "from e2_tools.commands.show import main\n",
    "tests/conftest.py": "",
    "tests/helpers/shared.py": "",
    "tests/tools/conftest.py": "from tests.helpers import shared\n",
    "tests/tools/test_low.py": "from e2_llm import low\n",
    "tests/tools/test_high.py": "from e2_llm.high import it\n",
    "tests/tools/test_show.py": "command = 'tools/show.py'\n",
    "tests/tools/test_patched.py": "setattr('e2_llm.high.NUMBER', 5)\n",
    "tests/tools/test_table.py": "open('docs/table.md')\n",
    "tests/unit/test_apart.py": "import json\n",
}
ALL = {path for path in FILES if "/test_" in path}


@pytest.fixture
def root(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ("e2_llm/low.py", ["test_low", "test_high", "test_patched", "test_show"]),
        ("e2_llm/high.py", ["test_high", "test_patched", "test_show"]),
        ("e2_llm/__init__.py", ["test_high", "test_low", "test_patched", "test_show"]),
        ("tools/show.py", ["test_show"]),
        ("tests/tools/test_low.py", ["test_low"]),
        ("docs/table.md", ["test_table"]),
        ("README.md", []),
    ],
)
def test_what_leads_to_a_change_is_affected_nearest_first(root, changed, names):
    found = affected([changed], root)
    assert [path.split("/")[-1].removesuffix(".py") for path in found] == names


def test_a_conftest_is_needed_by_the_tests_below_it(root):
    below = {path for path in ALL if path.startswith("tests/tools/")}
    assert set(affected(["tests/helpers/shared.py"], root)) == below
    assert set(affected(["tests/conftest.py"], root)) == ALL


def test_steps_are_counted(root):
    assert affected(["e2_llm/low.py"], root)["tests/tools/test_low.py"] == 1
    assert affected(["e2_llm/low.py"], root)["tests/tools/test_show.py"] == 4


def test_worlds_and_what_takes_too_long_are_left_out(monkeypatch):
    monkeypatch.setattr(module, "seconds", lambda path: 20 if "long" in path else 4)
    tests = ["tests/tools/test_a.py", "tests/distributed/test_b.py", "tests/unit/test_c.py"]
    tests += ["tests/tools/test_long.py", "tests/tools/test_long_too.py", "tests/tools/test_d.py"]
    picked, left = choose(tests, budget=30)
    assert picked == ["tests/tools/test_a.py", "tests/tools/test_long.py", "tests/tools/test_d.py"]
    assert left == ["tests/distributed/test_b.py", "tests/tools/test_long_too.py"]


def test_the_costs_are_of_files_that_are_there():
    assert [path for path in SECONDS if not (ROOT / path).exists()] == []
