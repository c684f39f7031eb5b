# SPDX-License-Identifier: Apache-2.0
"""preprocess_data.py killed at any moment: nothing half-written is taken for whole."""

import os
import random
import shutil
import signal
import time

import pytest

from e2_common.disk.indexed_dataset import read_index
from e2_tools.commands.preprocess_data import main
from e2_tools.corpus import reader
from tests.helpers.tiny_corpus import SPEECH, arguments, output_bytes, write_jsonl


def start(command, rename: int | None = None) -> int:
    """Run the command in a process group of its own; return its leader.

    With ``rename`` it is killed just before it puts that file, from 0, in place.
    """
    leader = os.fork()
    if leader == 0:
        code, replace, done = 1, os.replace, []

        def replace_or_die(source, target):
            if len(done) == rename:
                os.killpg(0, signal.SIGKILL)
            done.append(target)
            replace(source, target)

        try:
            os.setsid()
            os.replace = replace_or_die
            main(command)
            code = 0
        finally:
            os._exit(code)
    return leader


def kill_at(leader: int, folder, size: float) -> int:
    """Kill the group once so many bytes of ids are written; return the status it ends with."""
    while True:
        ended, status = os.waitpid(leader, os.WNOHANG)
        if ended:
            return status
        if sum(path.stat().st_size for path in there(folder, ".out_*.bin.*.tmp")) >= size:
            os.killpg(leader, signal.SIGKILL)
            return os.waitpid(leader, 0)[1]
        time.sleep(0.001)


def there(folder, pattern):
    """Files that still exist a moment after they were listed."""
    return [path for path in folder.glob(pattern) if path.exists()]


def whole(prefix, *datasets) -> bool:
    """Whether there is a dataset to be read; then it is one of those."""
    if not prefix.with_name(prefix.name + ".idx").exists():
        return False
    read_index(str(prefix))
    assert output_bytes(prefix) in datasets
    return True


@pytest.mark.parametrize("moments", [5, pytest.param(40, marks=pytest.mark.slow)])
def test_killed_at_many_moments(moments, tmp_path, tokenizers_by_name, monkeypatch):
    monkeypatch.setattr(reader, "BATCH_BYTES", 2000)
    chosen, prefix = tokenizers_by_name["hf"], tmp_path / "out_text_document"
    old = write_jsonl(tmp_path / "old.jsonl", ["an older dataset"] * 50)
    new = write_jsonl(tmp_path / "new.jsonl", [f"{number} {SPEECH}" for number in range(1500)])
    command = arguments(new, tmp_path / "out", chosen, "--append-eod", "--workers", "2")
    main(arguments(old, tmp_path / "out", chosen))
    before = output_bytes(prefix)
    assert os.waitpid(start(command), 0)[1] == 0
    wanted = output_bytes(prefix)
    assert wanted != before
    draw = random.Random(moments)
    killed = 0
    for number in range(moments):
        beside_an_old_one = number < 2 or draw.random() < 0.5
        for path in tmp_path.glob("*out*"):
            path.unlink() if path.is_file() else shutil.rmtree(path)
        if beside_an_old_one:
            main(arguments(old, tmp_path / "out", chosen))
        if number < 2:  # between the files' being put in place
            status = os.waitpid(start(command, rename=number), 0)[1]
        else:
            status = kill_at(start(command), tmp_path, draw.uniform(0, 0.9) * len(wanted[0]))
        assert os.WIFSIGNALED(status) or status == 0
        killed += os.WIFSIGNALED(status)
        is_whole = whole(prefix, *([before] if beside_an_old_one else []), wanted)
        assert not (is_whole and number < 2)
    assert killed > moments // 2
    assert os.waitpid(start(command), 0)[1] == 0
    assert whole(prefix, wanted)
    visible = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert visible == {"old.jsonl", "new.jsonl", f"{prefix.name}.bin", f"{prefix.name}.idx"}
