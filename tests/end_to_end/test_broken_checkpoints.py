# SPDX-License-Identifier: Apache-2.0
"""A run whose newest checkpoint is broken: refused, or gone on from the newest whole one."""

import json
import os
import shutil

import pytest

from e2_common.disk.checkpoint_folder import TRACKER, empty, folder_of, tracked
from e2_common.disk.torch_dist_index import flaw
from tests.distributed.corpus import make_corpus
from tests.distributed.world import TINY_MODEL, TINY_TRAINING, run_world
from tests.end_to_end.command_lines import refusals


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    return [*TINY_MODEL, *TINY_TRAINING, *make_corpus(tmp_path_factory.mktemp("corpus"))]


@pytest.fixture(scope="module")
def trained(command, tmp_path_factory):
    """Checkpoints of iterations 2, 4, … 10 and the losses of all iterations."""
    folder = tmp_path_factory.mktemp("trained")
    saving = [*command, "--save", str(folder / "run"), "--save-interval", "2"]
    run = run_world(1, [("uninterrupted", saving)], folder / "world")["uninterrupted"]
    return folder / "run", run["losses"]


def shorten(run):
    os.truncate(folder_of(run, 10) / "__0_0.distcp", 1000)


def flip_a_bit(run, iteration):
    path = folder_of(run, iteration) / "__0_0.distcp"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# What happened to the checkpoints, and what the refusal has to name.
DAMAGE = {
    "truncated": (shorten, ["iter_0000010 is not whole: __0_0.distcp is too short", "iteration 8"]),
    "no index": (
        lambda run: (folder_of(run, 10) / ".metadata").unlink(),
        ["iter_0000010 is not whole: .metadata is missing", "iteration 8"],
    ),
    "not finished": (
        lambda run: (folder_of(run, 10) / "metadata.json").unlink(),
        ["iter_0000010 is not whole: metadata.json is missing", "iteration 8"],
    ),
    "two broken": (
        lambda run: [(folder_of(run, i) / "metadata.json").write_text("") for i in (8, 10)],
        ["metadata.json cannot be read", "iteration 6"],
    ),
    "folder gone": (
        lambda run: shutil.rmtree(folder_of(run, 10)),
        ["iter_0000010 is not whole: no such folder", "iteration 8"],
    ),
    "tracker empty": (
        lambda run: (run / TRACKER).write_text(""),
        [f"{TRACKER} holds no iteration", "iteration 10"],
    ),
    "tracker gone": (lambda run: (run / TRACKER).unlink(), [f"{TRACKER} is missing"]),
}


def test_a_broken_checkpoint_is_refused_or_passed_over(command, trained, tmp_path, subtests):
    saving = [*command, "--save-interval", "2"]
    commands = {}
    for name, (damage, _) in DAMAGE.items():
        run = tmp_path / name
        shutil.copytree(trained[0], run)
        damage(run)
        # Refused in one process, and accepted after: passing over may mend the tracker.
        commands[name] = [*saving, "--load", str(run), "--save", str(run)]
    later = {f"{name}, newest whole": [*it, "--load-newest-whole"] for name, it in commands.items()}
    nothing = tmp_path / "nothing whole"
    shutil.copytree(trained[0], nothing)
    for iteration in (2, 4, 6, 8, 10):
        (folder_of(nothing, iteration) / ".metadata").unlink()
    later["nothing whole"] = [*command, "--load", str(nothing), "--load-newest-whole"]
    first = tmp_path / "first save"
    shutil.copytree(folder_of(nothing, 2), folder_of(first, 2))
    later["ended in its first save"] = [*saving, "--load", str(first), "--save", str(first)]
    later["both flags"] = [*command, "--load", str(nothing), "--load-newest-whole"]
    later["both flags"] += ["--ckpt-step", "2"]
    base = ["--pretrained-checkpoint", str(nothing)]
    places = ["--load", str(tmp_path / "new"), "--save", str(tmp_path / "new")]
    later["broken base"] = [*saving, *base, *places]
    refused = refusals({name: ["1", *argv] for name, argv in {**commands, **later}.items()})

    for name, (_, words) in DAMAGE.items():
        with subtests.test(name):
            for word in [f"--load {tmp_path / name}: ", *words, "--load-newest-whole"]:
                assert word in refused[name]
            assert f"{name}, newest whole" not in refused
            assert isinstance(tracked(tmp_path / name), int)
    assert "No whole one is left there" in refused["nothing whole"]
    assert "ended in its first save" not in refused
    assert "--ckpt-step and --load-newest-whole" in refused["both flags"]
    assert refused["broken base"].startswith(f"--pretrained-checkpoint {nothing}: iter_0000010")


@pytest.mark.timeout(600)
def test_what_is_loaded_and_what_is_overwritten(command, trained, tmp_path):
    """One world for three runs: flipped bits passed over, an old folder saved into, a refusal."""
    # The two newest have a flipped bit, which nothing but reading them shows.
    flipped = tmp_path / "flipped"
    shutil.copytree(trained[0], flipped)
    for iteration in (10, 8):
        flip_a_bit(flipped, iteration)
        assert flaw(folder_of(flipped, iteration)) is None
    passing_over = [*command, "--load", str(flipped), "--load-newest-whole"]

    # Set back to 8, so that 10 is saved once more, where an older 10 lies.
    back = tmp_path / "set back"
    shutil.copytree(trained[0], back)
    (back / TRACKER).write_text("8")
    (folder_of(back, 10) / "__7_0.distcp").write_bytes(b"of a larger world")
    again = [*command, "--load", str(back), "--save", str(back), "--save-interval", "10"]

    runs = {"passing over": passing_over, "again": again}
    runs["refused"] = [*command, "--load", str(flipped)]
    with pytest.raises(AssertionError, match=r"refused: .*") as failure:
        run_world(1, list(runs.items()), tmp_path / "world")
    assert "its checksum is another one. The newest whole one is iteration 8" in str(failure.value)
    results = json.loads((tmp_path / "world" / "results.json").read_text())
    log = (tmp_path / "world" / "world.log").read_text()

    losses = trained[1]
    assert results["passing over"]["losses"] == pytest.approx(losses[6:], rel=1e-6)
    assert results["again"]["losses"] == pytest.approx(losses[8:], rel=1e-6)
    for iteration in (10, 8):
        assert f"iter_{iteration:07d} is not whole: __0_0.distcp is damaged" in log
    assert "going on from iteration 6, the newest whole one" in log
    assert "iter_0000006: checksums of" in log
    new = sorted(path.name for path in folder_of(back, 10).iterdir())
    assert new == sorted(path.name for path in folder_of(trained[0], 10).iterdir())
    assert flaw(folder_of(back, 10)) is None


def test_nothing_of_an_old_checkpoint_is_left_while_a_new_one_is_written(tmp_path):
    """Or, ended in the middle, the old index would make it look whole."""
    for name in ("metadata.json", ".metadata", "__0_0.distcp", "__7_1.distcp", "notes.txt"):
        (tmp_path / name).touch()
    empty(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
