# SPDX-License-Identifier: Apache-2.0
"""Freed memory stays with a process that asks for it."""

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from e2_common.cpu.memory import keep_freed_memory
{before}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):  # the heap grows until a block finds room between others
    torch.ones(2**24)  # 64 MiB
start = faults()
for _ in range(10):
    torch.ones(2**24)
print(faults() - start)
"""


def faults(before):
    """How many pages of 64 MiB the system clears anew, when they are made ten times more."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return int(run.stdout)


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library of this machine is not glibc"
)
def test_large_tensors_are_made_without_asking_the_system():
    assert faults("pass") > 10_000
    assert faults("assert keep_freed_memory()") < 100


def test_another_c_library_is_left_alone(monkeypatch):
    from e2_common.cpu import memory

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    assert not memory.keep_freed_memory()
