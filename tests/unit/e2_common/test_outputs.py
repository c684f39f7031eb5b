# SPDX-License-Identifier: Apache-2.0
"""What a command may write: not what it reads, nothing through what is no file, nothing lost."""

import argparse
import json
import os
import socket
import stat
import threading

import pytest

from e2_common.errors import UserError
from e2_common.files import atomic_file
from e2_common.outputs import OutputFile, OutputFolder, check_outputs


def write(path, text="new"):
    with atomic_file(path, "--output") as temporary:
        temporary.write_text(text)


def refused(path, *words, **others):
    with pytest.raises(UserError) as info:
        check_outputs(argparse.Namespace(output=OutputFile(path), **others))
    assert "\n" not in str(info.value)
    for word in ("--output", *words):
        assert word in str(info.value), str(info.value)


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    for text in ("made", "replaced"):
        write(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "far" / "file").read_text() == text
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["far", "file", "link"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(mode)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_mode_that_the_user_gives_new_files(tmp_path):
    old = os.umask(0o027)
    try:
        write(tmp_path / "file")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_pipe_is_written_through(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()), daemon=True)
    reader.start()
    write(path)
    reader.join(20)
    assert read == ["new"]
    assert path.is_fifo()
    assert [one.name for one in tmp_path.iterdir()] == ["pipe"]


def test_an_open_pipe_by_its_number(tmp_path):
    """As a shell's process substitution names it."""
    reading, writing = os.pipe()
    write(f"/dev/fd/{writing}")
    os.close(writing)
    with os.fdopen(reading) as stream:
        assert stream.read() == "new"


def test_a_pipe_that_nobody_reads_any_more(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(UserError, match=r"cannot be written \(Broken pipe\)"):
        write(f"/dev/fd/{writing}", "x" * 100_000)
    os.close(writing)


@pytest.mark.parametrize("length", [240, 255])
def test_a_long_name_is_no_trouble(tmp_path, length):
    path = tmp_path / ("n" * length)
    write(path)
    assert path.read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_no_name_of_a_file(tmp_path):
    refused(tmp_path / ("n" * 256), "File name too long")
    refused(tmp_path / "a\0b", "no name of a file")
    refused(tmp_path, "is a folder")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "s"))
        refused(tmp_path / "s", "is a socket")
    (tmp_path / "file").touch()
    refused(tmp_path / "file" / "below", "file")


def test_what_another_argument_names_is_not_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data.jsonl"
    data.write_text("{}")
    (tmp_path / "link").symlink_to(data)
    os.link(data, tmp_path / "hard")
    for output in ("data.jsonl", "./data.jsonl", "link", "hard", str(data)):
        refused(output, "is named as well", data=data)
        refused(output, "is named as well", data=["x", "data.jsonl"])
    check_outputs(argparse.Namespace(output=OutputFile("new.json"), data=data, n=3, label="x"))
    assert data.read_text() == "{}"


def test_in_a_folder_that_is_read_only_earlier_results_are_replaced(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    contents = {"config.json": "{}", "list.json": "[1]", "model.safetensors": "x", "a.png": "not"}
    for name, content in contents.items():
        (model / name).write_text(content)
        refused(model / name, "is a file of", model=model)
    (model / "result.json").write_text(json.dumps({"schema": "perplexity/1"}))
    (model / "page.html").write_text("<!doctype html>\n")
    (model / "picture.png").write_bytes(b"\x89PNG\r\n")
    (model / "empty").touch()
    for name in ("result.json", "page.html", "picture.png", "empty", "new.json"):
        check_outputs(argparse.Namespace(output=OutputFile(model / name), model=model))


def test_a_folder_of_outputs_is_not_that_of_inputs(tmp_path):
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tmp_path / "same").symlink_to(tasks)
    for output in (tasks, tmp_path / "same", tasks / ".." / "tasks"):
        with pytest.raises(UserError, match="is named as an input as well"):
            check_outputs(argparse.Namespace(output=OutputFolder(output), data_dir=tasks))
    check_outputs(argparse.Namespace(output=OutputFolder(tasks / "answers"), data_dir=tasks))
