# SPDX-License-Identifier: Apache-2.0
"""Faults, injected while a world trains: it ends or goes on in time, and then with the same losses.

Every test is a row of the table in docs/reliability.md (benchmarks/faults.py writes it).
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from e2_common.disk.checkpoint_folder import TRACKER, folder_of, iterations, tracked
from e2_common.disk.torch_dist_index import flaw
from tests.multihost.conftest import ITERATIONS, LIMIT, on_one_host, saving
from tests.multihost.fault_table import record
from tests.multihost.hosts import (
    CARD,
    finish,
    logged,
    logs,
    losses,
    missing,
    one_host,
    same_curve,
    wait_for,
)

REASON = missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(1200),
]
TWO_HOSTS = "two hosts, TP2 × PP2"
ONE_HOST = "one host, DP2, distributed optimizer"


def done_again(folder):
    done = [iteration for iteration, _ in logged(folder)]
    return len(done) - len(set(done))


def wait_for_iteration(folder, iteration):
    wait_for(lambda: iteration in losses(folder), LIMIT, f"iteration {iteration}")


def ends_well(folder, running, curve, **row):
    """The world ends with code 0 and the losses of the uninterrupted run; record it."""
    codes = finish(running, LIMIT)
    assert codes == [0] * len(running), logs(folder)
    equal = same_curve(losses(folder), curve)
    record(lost=done_again(folder), equal=equal, **row)
    assert equal, (losses(folder), curve)


def gone(hosts, before):
    """Whether none of the ranks ``before`` runs any more."""
    return not any(set(old.values()) & set(h.ranks().values()) for h, old in before)


def test_kill_a_rank(hosts, command, uninterrupted, tmp_path):
    argv = saving(command, tmp_path)
    running = [host.start(tmp_path, argv, "--max-restarts", "3") for host in hosts]
    wait_for_iteration(tmp_path, 5)
    before = [(host, host.ranks()) for host in hosts]
    os.kill(before[1][1][1], signal.SIGKILL)
    seconds = wait_for(lambda: gone(hosts, before), LIMIT, "all ranks are ended")
    ends_well(
        tmp_path,
        running,
        uninterrupted,
        fault="`kill -9` of a rank",
        where=TWO_HOSTS,
        noticed=f"{seconds:.0f} s, all ranks ended",
        restart="torchrun `--max-restarts`",
    )


def test_kill_a_host(hosts, command, uninterrupted, tmp_path):
    argv = saving(command, tmp_path)
    running = [host.start(tmp_path, argv) for host in hosts]
    wait_for_iteration(tmp_path, 5)
    hosts[1].kill()
    start = time.monotonic()
    codes = finish(running, LIMIT)
    seconds = time.monotonic() - start
    assert all(codes)
    ends_well(
        tmp_path,
        [host.start(tmp_path, argv) for host in hosts],
        uninterrupted,
        fault="all processes of a host killed",
        where=TWO_HOSTS,
        noticed=f"{seconds:.0f} s, the other host ended",
        restart="by hand",
    )


def test_cut_the_link_for_ten_seconds(hosts, command, uninterrupted, tmp_path):
    argv = saving(command, tmp_path)
    running = [host.start(tmp_path, argv) for host in hosts]
    wait_for_iteration(tmp_path, 5)
    hosts[0].ip("link", "set", CARD, "down")
    time.sleep(1)
    there = max(losses(tmp_path))
    time.sleep(9)
    assert max(losses(tmp_path)) == there  # nothing can be done without the other host
    hosts[0].ip("link", "set", CARD, "up")
    seconds = wait_for(lambda: max(losses(tmp_path)) > there, LIMIT, "the next iteration")
    ends_well(
        tmp_path,
        running,
        uninterrupted,
        fault="link between the hosts cut for 10 s",
        where=TWO_HOSTS,
        noticed=f"not; the next iteration ended {seconds:.0f} s after the link was back",
        restart="by itself",
    )
    assert done_again(tmp_path) == 0


@pytest.mark.parametrize("tries", [15, 8])
def test_cut_the_link_for_good(hosts, command, uninterrupted, tmp_path, tries):
    """The ranks end within --distributed-timeout-minutes, torchrun within TCP's own time-out."""
    argv = [*saving(command, tmp_path), "--distributed-timeout-minutes", "1"]
    for host in hosts:
        host.give_up_sending_after(tries)
    running = [host.start(tmp_path, argv) for host in hosts]
    wait_for_iteration(tmp_path, 5)
    before = [(host, host.ranks()) for host in hosts]
    hosts[0].ip("link", "set", CARD, "down")
    start = time.monotonic()
    seconds = wait_for(lambda: gone(hosts, before), LIMIT, "all ranks are ended")
    assert seconds < 60 + 60, "Megatron's time-out, what torchrun gives a rank to end, slack"
    # torchrun on the host without the store waits for an answer until TCP gives up.
    if tries == 8:
        codes = finish(running, 180)
        assert all(codes)
        torchrun = f", torchrun after {time.monotonic() - start:.0f} s"
    else:
        assert finish(running[:1], 60) != [0]
        torchrun = ", one torchrun waits for TCP (15 min) and was ended by hand"
        hosts[1].kill()
        finish(running[1:], 20)
    hosts[0].ip("link", "set", CARD, "up")
    ends_well(
        tmp_path,
        [host.start(tmp_path, argv) for host in hosts],
        uninterrupted,
        fault="link cut for good, `--distributed-timeout-minutes 1`, "
        f"`net.ipv4.tcp_retries2={tries}`",
        where=TWO_HOSTS,
        noticed=f"{seconds:.0f} s, all ranks ended{torchrun}",
        restart="by hand",
    )


def test_sigterm(hosts, command, uninterrupted, tmp_path):
    """The ranks of one host are told; both save, and both torchruns end with code 0."""
    argv = [*saving(command, tmp_path), "--save-interval", "1000", "--exit-signal-handler"]
    running = [host.start(tmp_path, argv) for host in hosts]
    wait_for_iteration(tmp_path, 5)
    for process in hosts[0].ranks().values():
        os.kill(process, signal.SIGTERM)
    start = time.monotonic()
    assert finish(running, LIMIT) == [0, 0], logs(tmp_path)
    seconds = time.monotonic() - start
    saved = tracked(tmp_path / "checkpoints")
    assert saved == max(losses(tmp_path)) < ITERATIONS
    ends_well(
        tmp_path,
        [host.start(tmp_path, argv) for host in hosts],
        uninterrupted,
        fault="SIGTERM to the ranks of one host",
        where=TWO_HOSTS,
        noticed=f"{seconds:.0f} s, saved and ended with code 0",
        restart="by hand",
    )
    assert done_again(tmp_path) == 0


@pytest.fixture(scope="module")
def recipe(command):
    """As the recipes save: data parallel, distributed optimizer; large enough to take a moment."""
    sizes = ["--hidden-size", "320", "--ffn-hidden-size", "800"]
    sharding = ["--use-distributed-optimizer", "--dist-ckpt-optim-fully-reshardable"]
    layout = ["--tensor-model-parallel-size", "1", "--pipeline-model-parallel-size", "1"]
    return [*command, *sizes, *sharding, *layout, "--load-newest-whole"]


@pytest.fixture(scope="module")
def recipe_curve(recipe, tmp_path_factory):
    return on_one_host(tmp_path_factory.mktemp("recipe"), 2, recipe)


def test_kill_during_a_save(recipe, recipe_curve, tmp_path):
    """In the second save after each start, at another moment each time."""
    argv, run = saving(recipe, tmp_path), tmp_path / "checkpoints"
    random_numbers, states = random.Random(3), []
    with one_host(2) as machine:
        for kill in range(3):
            running = machine.start(tmp_path, argv)
            saved = 2 * kill + 2
            wait_for(lambda saved=saved: tracked(run) == saved, LIMIT, f"{saved} is saved", 0.01)
            broken = folder_of(run, saved + 2)
            wait_for(broken.is_dir, LIMIT, f"{saved + 2} is being saved", 0.001)
            # From the first file to the rename of the last.
            time.sleep(random_numbers.uniform(0, 0.25) if kill else 0)
            machine.kill()
            finish([running], 20)
            states.append((tracked(run), flaw(broken)))
            assert tracked(run) in (None, saved, saved + 2)  # None: in the middle of this file
            assert tracked(run) is None or flaw(folder_of(run, tracked(run))) is None
            if tracked(run) == saved + 2:  # the save was quicker: the next start takes that
                (run / TRACKER).write_text(str(saved))
        middle = sum(state is not None for _, state in states)
        assert middle >= 1, states
        ends_well(
            tmp_path,
            [machine.start(tmp_path, argv)],
            recipe_curve,
            fault=f"`kill -9` of everything during a save, at {len(states)} moments, {middle} of "
            "which left an unfinished checkpoint",
            where=ONE_HOST,
            noticed="at the next start",
            restart="by hand",
        )


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of ``size`` bytes on a folder."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_fill_the_disk_during_a_save(recipe, recipe_curve, tmp_path):
    argv, run = saving(recipe, tmp_path), tmp_path / "checkpoints"
    # A first, whole one, to know its size.
    with one_host(2) as machine, small_disk(run, 2**30):
        first = [*argv, "--exit-interval", "2"]
        assert finish([machine.start(tmp_path, first)], LIMIT) == [0], logs(tmp_path)
        size = sum(path.stat().st_size for path in folder_of(run, 2).iterdir())
        subprocess.run(["mount", "-o", f"remount,size={int(2.5 * size)}", run], check=True)
        running = machine.start(tmp_path, argv)
        wait_for(lambda: folder_of(run, 6).is_dir(), LIMIT, "the save that will not fit", 0.01)
        start = time.monotonic()
        (code,) = finish([running], LIMIT)
        seconds = time.monotonic() - start
        assert code != 0
        assert "No space left on device" in (tmp_path / "host.log").read_text()
        assert tracked(run) == 4
        assert flaw(folder_of(run, 4)) is None
        assert flaw(folder_of(run, 6)) is not None
        subprocess.run(["mount", "-o", "remount,size=1g", run], check=True)
        ends_well(
            tmp_path,
            [machine.start(tmp_path, argv)],
            recipe_curve,
            fault="disk full during a save",
            where=ONE_HOST,
            noticed=f"{seconds:.0f} s, all ranks ended",
            restart="by hand, after making room",
        )


def shorten(path):
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path):
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


@pytest.fixture(scope="module")
def half_way(recipe, tmp_path_factory):
    """The folder of a run that ended after iteration 8 of 16."""
    folder = tmp_path_factory.mktemp("half_way")
    argv = [*saving(recipe, folder), "--exit-interval", "8"]
    with one_host(2) as machine:
        assert finish([machine.start(folder, argv)], LIMIT) == [0], logs(folder)
    assert iterations(folder / "checkpoints") == [8, 6, 4, 2]
    return folder


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("a file of the newest checkpoint cut in half", shorten),
        ("a bit of the newest checkpoint flipped", flip_a_bit),
    ],
)
def test_damage_the_newest_checkpoint(recipe, recipe_curve, half_way, tmp_path, name, damage):
    shutil.copytree(half_way, tmp_path, dirs_exist_ok=True)
    argv, run = saving(recipe, tmp_path), tmp_path / "checkpoints"
    damage(folder_of(run, 8) / "__1_0.distcp")
    (tmp_path / "refused").mkdir()
    refusing = [word for word in argv if word != "--load-newest-whole"]
    with one_host(2) as machine:
        (code,) = finish([machine.start(tmp_path / "refused", refusing)], LIMIT)
        assert code != 0
        text = (tmp_path / "refused" / "host.log").read_text()
        assert f"error: --load {run}: iter_0000008 is not whole: __1_0.distcp" in text
        assert f"`echo 6 > {run / TRACKER}` goes on from it" in text
        ends_well(
            tmp_path,
            [machine.start(tmp_path, argv)],
            recipe_curve,
            fault=name,
            where=ONE_HOST,
            noticed="at the next start, before loading",
            restart="by itself, `--load-newest-whole`",
        )
