# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of train_e2_hf.py that are damaged, and disks that are full: one line, exit 2."""

import shlex
import shutil
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

import train_e2_hf
from e2_common.disk.manifest import NAME
from e2_tools.tuning import checkpoints
from tests.helpers import ROOT
from tests.helpers.commands import call, refused, refused_by, run_command
from tests.tools.tuning.test_train_e2_hf import command, lines, train

LORA = ("--lora", "2")


@pytest.fixture(scope="module")
def trained(start, tmp_path_factory):
    """The folder of a LoRA's run with checkpoints of the steps 2 and 4."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENIZERS_PARALLELISM", "false")  # as the command sets it
        call(train_e2_hf.main, *command(start, folder / "out", *LORA, "--keep-checkpoints", "2"))
    return folder / "out-checkpoints"


@pytest.fixture
def run(start, trained, tmp_path):
    """The command line of a run whose checkpoints are those of ``trained``."""
    shutil.copytree(trained, tmp_path / "out-checkpoints")
    return command(start, tmp_path / "out", *LORA)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


FILES = {
    *("adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "scheduler.pt"),
    *("rng_state.pth", "trainer_state.json", "training_args.bin", NAME),
}
DAMAGES = {
    "missing": Path.unlink,
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "flipped": flip,
    "no JSON": lambda path: path.write_text("text"),
    "other JSON": lambda path: path.write_text("{}"),
}


def test_all_files_are_known(trained):
    files = {path.name for path in (trained / "checkpoint-4").iterdir()}
    assert files >= FILES
    assert checkpoints.checkpoints(trained) == [trained / "checkpoint-4", trained / "checkpoint-2"]
    assert not checkpoints.unfinished(trained).exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_of_every_file_is_seen(trained, tmp_path, damage):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    for path in sorted((folder / "checkpoint-4").rglob("*")):
        before = path.read_bytes()
        DAMAGES[damage](path)
        with pytest.raises(checkpoints.UserError, match=path.name) as told:
            checkpoints.choose(folder, newest_whole=False)
        assert "checkpoint-2, which --load-newest-whole takes" in str(told.value)
        assert checkpoints.choose(folder, newest_whole=True)[0] == folder / "checkpoint-2"
        path.write_bytes(before)
    assert checkpoints.choose(folder, newest_whole=False) == (folder / "checkpoint-4", None)


def test_a_damaged_checkpoint_is_refused_and_passed_by(run, tmp_path, capsys):
    folder = tmp_path / "out-checkpoints"
    truncate(folder / "checkpoint-4" / "optimizer.pt")
    words = ["--checkpoint-dir", "checkpoint-4", "optimizer.pt has", "--load-newest-whole"]
    refused(capsys, words, call, train_e2_hf.main, *run, untouched=tmp_path, alone=False)
    call(train_e2_hf.main, *run, "--load-newest-whole")
    out = capsys.readouterr().out
    assert "going on from checkpoint-2, the newest whole one" in out
    assert sorted(lines(out)) == [3, 4]
    assert [path.name for path in checkpoints.checkpoints(folder)] == ["checkpoint-4"]


def test_without_a_whole_checkpoint_nothing_begins_anew(run, tmp_path, capsys):
    for step in (2, 4):
        (tmp_path / "out-checkpoints" / f"checkpoint-{step}" / "rng_state.pth").unlink()
    words = ["rng_state.pth is missing", "No whole one is left"]
    for more in ([], ["--load-newest-whole"]):
        refused(capsys, words, call, train_e2_hf.main, *run, *more, untouched=tmp_path, alone=False)


def fail(monkeypatch, module, name, error, after):
    """Have a function fail when it is called for the ``after``-th time."""
    original, calls = getattr(module, name), []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == after:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, failing)


TORCH = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")
RUST = safetensors.SafetensorError("I/O error: No space left on device (os error 28)")
FAILURES = {
    "torch says little": (torch, "save", TORCH, "Input/output error"),
    "torch is told": (torch, "save", OSError(28, "No space left on device"), "No space left"),
    "quota": (torch, "save", OSError(122, "Disk quota exceeded"), "quota"),
    "read-only": (torch, "save", PermissionError(13, "Permission denied", "x"), "Permission"),
    "safetensors": (safetensors.torch, "save_file", RUST, "No space left"),
}


QUICK = ("torch says little",)
EACH = [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in FAILURES]


@pytest.mark.parametrize("name", EACH)
def test_a_save_that_fails_leaves_the_checkpoint_before(start, tmp_path, capsys, monkeypatch, name):
    """The save at step 4 fails; that of step 2 serves, and the run ends as if nothing had been."""
    module, function, error, words = FAILURES[name]
    argv = command(start, tmp_path / "out", *LORA)
    saves = {"save": 5 + 2, "save_file": 2}[function]  # each checkpoint has five of torch
    with monkeypatch.context() as patch:
        if function == "save_file":
            import peft.peft_model

            module, function = peft.peft_model, "safe_save_file"
        fail(patch, module, function, error, saves)
        told = ["--checkpoint-dir", "cannot be written", words, "goes on from checkpoint-2"]
        refused(capsys, told, call, train_e2_hf.main, *argv, alone=False)
    folder = tmp_path / "out-checkpoints"
    names = {path.name for path in folder.iterdir()}
    assert names == {"checkpoint-2", "run.json"}
    assert not (tmp_path / "out").exists()
    assert sorted(train(capsys, start, tmp_path / "out", *LORA)) == [3, 4]


@pytest.mark.slow
def test_a_file_that_grows_too_large(start, tmp_path):
    """A limit of the system itself, not one that is played: no file of more than 8 blocks."""
    words = [sys.executable, ROOT / "train_e2_hf.py", *command(start, tmp_path / "out", *LORA)]
    script = f"ulimit -f 8; {shlex.join(map(str, words))}"
    told = ["--checkpoint-dir", "cannot be written", "begins anew"]
    refused_by(run_command("bash", "-c", script, code=None), told, alone=False)
    assert [path.name for path in (tmp_path / "out-checkpoints").iterdir()] == ["run.json"]


def full(*args):
    raise RUST


@pytest.mark.parametrize(
    "lora", [LORA, pytest.param((), marks=pytest.mark.slow)], ids=["adapter", "model"]
)
def test_a_result_that_cannot_be_written_is_saved_by_the_next_start(
    start, tmp_path, capsys, monkeypatch, lora
):
    argv = command(start, tmp_path / "out", *lora)
    with monkeypatch.context() as patch:
        patch.setattr("e2_tools.tuning.save.copy_tokenizer", full)
        refused(capsys, ["--save", "No space left"], call, train_e2_hf.main, *argv, alone=False)
    assert not (tmp_path / "out").exists()
    assert train(capsys, start, tmp_path / "out", *lora) == {}
    assert (tmp_path / "out").is_dir()
