# SPDX-License-Identifier: Apache-2.0
"""Outputs are whole or absent, and only their own errors are called theirs."""

import errno
import hashlib
import os

import pytest

from e2_common.errors import UserError, brief, on_one_line
from e2_common.files import atomic_directory, atomic_file, sha256_of, writing

NO_SPACE = "cannot be written (No space left on device)"


def disk_error(number=errno.ENOSPC, *names):
    return OSError(number, os.strerror(number), *names)


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "out.json"
    path.write_text("old")
    return path


def raising(make, path, error, flag=""):
    with make(path, flag) as temporary:
        raise error(temporary) if callable(error) else error


@pytest.mark.parametrize("flag", ["", "--output"])
@pytest.mark.parametrize(
    "error",
    [
        disk_error(),  # of a write: it names no file
        lambda temporary: disk_error(errno.ENOSPC, str(temporary)),
        lambda temporary: disk_error(errno.ENOSPC, os.fsencode(temporary)),
        lambda temporary: disk_error(errno.ENOSPC, temporary.relative_to(os.getcwd())),
    ],
)
def test_what_is_the_outputs_fault_is_one_line(old, monkeypatch, error, flag):
    monkeypatch.chdir(old.parent)
    with pytest.raises(UserError) as info:
        raising(atomic_file, old, error, flag)
    assert str(info.value) == f"{flag} {old}: {NO_SPACE}".strip()
    assert [path.name for path in old.parent.iterdir()] == ["out.json"]
    assert old.read_text() == "old"


@pytest.mark.parametrize(
    "error",
    [
        disk_error(errno.ENOSPC, "/another/file"),
        disk_error(errno.ENOENT, "input.txt"),
        disk_error(errno.EPIPE),  # of a print
        disk_error(errno.ECONNRESET),
        disk_error(errno.EIO, 3),  # a number of an open file names none
        TimeoutError("no number at all"),
        ValueError("x"),
        UserError("another's line"),
    ],
)
@pytest.mark.parametrize("make", [atomic_file, atomic_directory])
def test_errors_of_others_pass_unchanged(tmp_path, make, error):
    with pytest.raises(type(error)) as info:
        raising(make, tmp_path / "out", error)
    assert info.value is error
    assert list(tmp_path.iterdir()) == []


def test_everything_in_a_folder_is_the_folders(tmp_path):
    with pytest.raises(UserError, match=r"^--save .*/out: cannot be written \(Permission denied"):
        raising(
            atomic_directory,
            tmp_path / "out",
            lambda folder: disk_error(errno.EACCES, str(folder / "deep" / "file")),
            "--save",
        )
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="out: is a folder"), atomic_file(tmp_path / "out"):
        (tmp_path / f".out.{os.getpid()}.tmp").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_real_full_disk():
    full = "/dev/full"
    if not os.path.exists(full):
        pytest.skip("no /dev/full")
    with pytest.raises(UserError, match="^/dev/full: cannot be written"), writing(full):  # noqa: SIM117
        with open(full, "w") as file:
            file.write("x")
    with pytest.raises(OSError) as info, open(full, "w") as file:
        file.write("x")
    assert info.value.filename is None  # which is why such an error is told by its number


def test_a_body_that_succeeds(old):
    with atomic_file(old) as temporary:
        temporary.write_text("new")
        assert old.read_text() == "old"
    assert old.read_text() == "new"


def test_sha256_of_a_file(tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "x").write_bytes(data)
    seen = []
    assert sha256_of(tmp_path / "x", seen.append) == hashlib.sha256(data).hexdigest()
    assert sum(seen) == len(data)
    assert len(seen) == 3
    with pytest.raises(UserError, match="nosuch: cannot be read"):
        sha256_of(tmp_path / "nosuch")


def test_errors_as_one_line():
    assert brief(ValueError("\n first \nsecond")) == "first"
    assert brief(AssertionError()) == "AssertionError"
    assert len(brief(ValueError("x" * 999))) == 200
    assert on_one_line(ValueError("first\n  second")) == "first second"
