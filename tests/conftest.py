# SPDX-License-Identifier: Apache-2.0
"""All tests: one thread a process, files in a random order, nothing left behind.

Tiny models gain nothing from more threads; worlds of ranks and pools of workers share the cores.
``E2_TEST_ORDER=N`` gives the order that a header has named, ``E2_TEST_ORDER=0`` the plain one.
"""

import gc
import os
import random

import pytest

from tests.helpers import ROOT
from tests.helpers.costs import seconds
from tests.helpers.left_behind import state, what_changed

# For the scripts and ranks that tests start: this checkout before any that is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
# In the environment, so that the workers of xdist and the ranks of a world have the same one.
if "E2_INSIDE_WORLD" in os.environ:
    os.environ.setdefault("E2_TEST_ORDER", "0")
os.environ.setdefault("E2_TEST_ORDER", str(random.SystemRandom().randrange(1, 10**6)))


def pytest_report_header():
    return f"order of files: E2_TEST_ORDER={os.environ['E2_TEST_ORDER']}"


def pytest_collection_modifyitems(items):
    """Shuffle the files, the long ones first; the tests of a file keep their order."""
    seed = int(os.environ["E2_TEST_ORDER"])
    if not seed:
        return
    files = sorted({item.path for item in items})
    random.Random(seed).shuffle(files)
    # A long one begun last would keep one core busy while the other has nothing left to do.
    files.sort(key=lambda path: -seconds(str(path.relative_to(ROOT))) // 20)  # stable
    places = {path: place for place, path in enumerate(files)}
    items.sort(key=lambda item: places[item.path])


def pytest_collection_finish():
    """What is imported by now stays: whoever looks for garbage need not go through it."""
    gc.collect()
    gc.freeze()


def _nothing_is_left_behind(tmp_path_factory):
    """Fail a test, or a file's fixture, after which the next test would find another world."""
    before = state()
    yield
    changed = what_changed(before, state(), tmp_path_factory.getbasetemp())
    assert not changed, "left behind: " + "; ".join(changed)


@pytest.fixture(autouse=True)
def what_commands_set(of_a_test, monkeypatch):
    """Is taken back: a command tells the tokenizers not to start threads before it forks."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "")
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")


of_a_test = pytest.fixture(autouse=True, name="of_a_test")(_nothing_is_left_behind)
of_a_file = pytest.fixture(autouse=True, scope="module", name="of_a_file")(_nothing_is_left_behind)
