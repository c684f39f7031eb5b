# SPDX-License-Identifier: Apache-2.0
"""The guard of all tests: it notices what one test would leave for the next."""

import importlib
import logging
import os
import sys
from types import ModuleType

import matplotlib
import pytest
import torch

from tests.helpers.left_behind import state, what_changed


def made_up_module(patch, folder):
    patch.setitem(sys.modules, "made_up", ModuleType("made_up"))


def module_of_a_temporary_folder(patch, folder):
    (folder / "written_here.py").write_text("")
    patch.setitem(sys.modules, "written_here", None)
    patch.delitem(sys.modules, "written_here")
    patch.syspath_prepend(folder)
    importlib.import_module("written_here")


LEAKS = {
    "sys.modules['made_up']": made_up_module,
    "sys.modules['written_here']": module_of_a_temporary_folder,
    "sys.modules['json']": lambda patch, _: patch.setitem(sys.modules, "json", None),
    "sys.modules without json": lambda patch, _: patch.delitem(sys.modules, "json"),
    "os.environ at MADE_UP": lambda patch, _: patch.setenv("MADE_UP", "1"),
    "os.environ at OMP_NUM_THREADS": lambda patch, _: patch.delenv("OMP_NUM_THREADS"),
    "the current folder was ": lambda patch, folder: patch.chdir(folder),
    "logging.disable was 0": lambda patch, _: patch.setattr(logging.root.manager, "disable", 30),
    "sys.path with /": lambda patch, folder: patch.syspath_prepend(folder),
    "sys.path without /": lambda patch, _: patch.setattr(sys, "path", sys.path[:1]),
    "sys.argv was ": lambda patch, _: patch.setattr(sys, "argv", ["a"]),
    "matplotlib.rcParams at font.size": lambda patch, _: patch.setitem(
        matplotlib.rcParams, "font.size", 30.0
    ),
}


@pytest.mark.parametrize("words", LEAKS)
def test_a_leak_is_noticed(words, tmp_path):
    before = state()
    with pytest.MonkeyPatch.context() as patch:
        LEAKS[words](patch, tmp_path)
        changed = what_changed(before, state(), tmp_path)
    assert any(line.startswith(words) for line in changed), changed
    assert not what_changed(before, state(), tmp_path)


def test_a_changed_default_of_torch_is_noticed(tmp_path):
    before = state()
    torch.set_default_dtype(torch.float64)
    changed = what_changed(before, state(), tmp_path)
    torch.set_default_dtype(torch.float32)
    assert changed == ["torch's default dtype was torch.float32 and is torch.float64"]
    torch.set_default_device("meta")
    changed = what_changed(before, state(), tmp_path)
    torch.set_default_device(None)
    assert changed == ["torch's default device was cpu and is meta"]


def test_a_real_module_may_be_imported_and_put_another_of_itself_in_its_place(tmp_path):
    before = state()
    with pytest.MonkeyPatch.context() as patch:
        itself = ModuleType("json")
        itself.__spec__ = sys.modules["json"].__spec__
        patch.setitem(sys.modules, "json", itself)
        assert not what_changed(before, state(), tmp_path)
    importlib.import_module("colorsys")
    importlib.import_module("xml.sax.expatreader")
    assert os.path.basename(sys.modules["colorsys"].__file__) == "colorsys.py"
    assert not what_changed(before, state(), tmp_path)
