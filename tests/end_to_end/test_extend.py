# SPDX-License-Identifier: Apache-2.0
"""examples/smollm2_135m/extend at toy size: stopped, gone on with, and what its tables hold."""

import argparse
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace

import pytest
import torch

from examples.smollm2_135m.extend import step as step_module
from examples.smollm2_135m.extend.costs import Costs, hours_left
from examples.smollm2_135m.extend.experiment import Experiment, main
from examples.smollm2_135m.extend.plan import COLUMNS, arms_of, cells, columns_of
from examples.smollm2_135m.extend.runner import Runner
from examples.smollm2_135m.extend.step import Running, Step, in_turn
from examples.smollm2_135m.extend.tables import join
from examples.smollm2_135m.extend.texts import HELD_OUT, held_out_titles, r_texts
from tests.distributed.corpus import make_tokenizer
from tests.helpers import ROOT
from tests.helpers.commands import refused, refused_by, run_command
from tests.helpers.families import make_model

SCRIPT = "examples/smollm2_135m/extend/run.sh"


def r_object(kind, strings, version=3):
    """What R's serialize() writes of a vector of strings, in R's lazy-load file."""
    head = struct.pack(">3i", version, 0x40201, 0x30500)
    if version >= 3:
        head += struct.pack(">i", 5) + b"UTF-8"
    data = b"X\n" + head + struct.pack(">2i", kind, len(strings))
    for string in strings:
        word = b"" if string is None else string.encode()
        size = -1 if string is None else len(word)
        data += struct.pack(">2i", 0x40009, size) + word
    return struct.pack(">I", len(data)) + zlib.compress(data)


def test_texts_of_an_r_package_are_read():
    content = r_object(16, ["Emma", "", "é"]) + r_object(13, []) + r_object(0x210, [None, "x"], 2)
    assert r_texts(content) == ["Emma\n\né\n", "\nx\n"]


def test_held_out_titles():
    titles, haystack = held_out_titles(HELD_OUT.read_text(encoding="utf-8"))
    assert len(titles) == 4
    assert haystack not in titles


def test_up_to_l_an_untrained_model_is_asked_once():
    columns = columns_of("", arms_of("best paper control"))
    assert columns == list(COLUMNS)
    asked = [
        (cell.window, cell.column.name) for cell in cells(columns, [8, 16], ["perplexity"], 3, 8)
    ]
    names = [column.name for column in COLUMNS]
    at_l = ["base", "control", "paper", "best"]
    assert asked == [(8, name) for name in at_l] + [(16, name) for name in names]


def test_needles_of_several_seeds_are_put_together():
    cell = {"window": 8, "depth": 0, "trials": 1}
    files = [{"label": "x", "seed": seed, "results": [cell | {"correct": seed}]} for seed in (0, 1)]
    assert [row["correct"] for row in join("y", files)["results"]] == [0, 1]


@pytest.fixture
def toy(tmp_path):
    """Options for a tiny model, with its folder ``out``."""
    model, texts = tmp_path / "model", tmp_path / "texts"
    make_model("smollm2").save_pretrained(model)
    for file in make_tokenizer(tmp_path).iterdir():
        shutil.copy(file, model)
    texts.mkdir()
    words = " ".join(f"w{index * 7 % 254}" for index in range(3000)) + "."
    for name in ("train", "held_out"):
        (texts / f"{name}.jsonl").write_text(f"{json.dumps({'text': words})}\n" * 4)
    (texts / "haystack.txt").write_text(words)
    return ["--out", tmp_path / "out", "--model", model, "--texts", texts]


SIZES = (
    "--tokens 16384 --seq-length 64 --batch 4 --ranks 1 --jobs 2 --depths 50 --max-scale 4".split()
)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"arms": "best x"}, "--arms x"),
        ({"arms": "best", "columns": "base paper"}, "--columns paper"),
        ({"tests": "passkey"}, "--tests passkey"),
        ({"tokens": 8}, "--tokens 8"),
    ],
)
def test_refusals(options, word, tmp_path, capsys):
    words = dict.fromkeys("tokens books trials seq-length batch max-scale ranks jobs".split(), 1)
    words |= {"micro-batch": 1, "device": "cpu", "dtype": "auto"}
    words |= {"arms": "best", "columns": "", "windows": "2", "tests": "noise", "depths": "0"}
    words |= {"out": tmp_path, "model": tmp_path, "texts": tmp_path} | options
    (tmp_path / "settings.json").write_text('{"tokens": 1}')
    flags = [text for name, value in words.items() for text in (f"--{name}", str(value))]
    refused(capsys, word, main, flags, untouched=tmp_path)


def experiment(folder, **options):
    """The steps of a command line in a folder where nothing is."""
    words = {"arms": "best", "columns": "", "windows": "2 9000", "tests": "perplexity noise"}
    words |= {"depths": "0", "out": folder, "model": folder, "texts": folder, "dtype": "fp32"}
    for name in "tokens books trials seq_length batch max_scale ranks jobs micro_batch".split():
        words[name] = 1
    return Experiment(argparse.Namespace(**{**words, **options}))


def test_a_gpu_gets_few_processes(tmp_path):
    """Starting one takes longer than its questions."""
    one_by_one = experiment(tmp_path, device="cpu").steps()[-1]
    in_groups = experiment(tmp_path, device="cuda").steps()[-1]
    names = {
        f"{test}-{name}"
        for test in ("perplexity", "noise")
        for name in ("base", "best", "linear", "yarn")
    }
    assert sorted(names) == sorted(step.name for step in in_groups)
    assert all(step.command[-1] != "--" and "cuda" in step.command for step in in_groups)
    commands = sum(step.command.count("--") + 1 for step in in_groups)
    assert commands == len(one_by_one) == 2 * (2 + 4)
    seconds = sum(step.core_seconds for step in in_groups)
    assert seconds < sum(step.core_seconds for step in one_by_one) / 5


def test_a_group_of_steps_is_one_process(runner, tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, pathlib, sys\n"
        "assert len(sys.argv) == 2\n"
        "pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\n"
    )
    files = [tmp_path / "a", tmp_path / "b"]
    steps = [
        Step(file.name, "needle 8", [sys.executable, str(script), str(file)], file.exists, 2.0)
        for file in files
    ]
    group = in_turn("both", steps)
    assert (group.kind, group.core_seconds, group.done()) == ("needle", 4.0, False)
    runner.run([group])
    assert group.done()
    assert len({file.read_text() for file in files}) == 1


def test_what_fits_beside_what_runs(runner):
    one, two, three = (replace(shell("", ""), cores=cores) for cores in (1, 2, 3))
    busy = [argparse.Namespace(step=one)]
    assert runner.fits(one, busy)
    assert not runner.fits(two, busy)
    assert runner.fits(three, [])  # alone


@pytest.fixture
def runner(tmp_path):
    """A runner; signals are pytest's again afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Runner(tmp_path, [], jobs=2)
    for number, handler in before.items():
        signal.signal(number, handler)


def shell(name, script, done=lambda: True):
    return Step(name, "preparation", ["sh", "-c", script], done, core_seconds=1)


@pytest.mark.parametrize(
    ("script", "code", "told"),
    [
        ("echo page; echo 'error: no such model'; exit 1", 2, "error: no such model"),
        ("echo bad >&2; exit 3", 3, "error: broken ended with code 3\nbad"),
        ("kill -9 $$", 1, "error: broken ended with code -9"),
        ("exit 0", 1, "error: broken ended with code 0"),  # and its output is not there
    ],
)
def test_a_step_that_fails(runner, capsys, script, code, told, tmp_path):
    last = tmp_path / "last"
    steps = [
        shell("broken", script, lambda: False),
        shell("beside", "sleep 100", lambda: False),
        shell("last", f"touch {last}", last.exists),
    ]
    with pytest.raises(SystemExit) as end:
        runner.run(steps)
    assert end.value.code == code
    assert capsys.readouterr().err.startswith(f"{told}\n(the whole output: {tmp_path}")
    assert not last.exists()
    assert [row["step"] for row in Costs(tmp_path / "costs.jsonl").rows] == ["broken", "beside"]


def test_a_signal_ends_what_runs(runner, capsys, tmp_path):
    step = shell("long", "trap 'touch saved; exit 0' TERM; kill -TERM $PPID; sleep 100 & wait")
    step = replace(
        step, done=lambda: False, command=[*step.command[:2], f"cd {tmp_path}; {step.command[2]}"]
    )
    with pytest.raises(SystemExit) as end:
        runner.run([step])
    assert end.value.code == 128 + signal.SIGTERM
    assert "the same command goes on" in capsys.readouterr().out
    assert (tmp_path / "saved").exists()
    assert [row["finished"] for row in Costs(tmp_path / "costs.jsonl").rows] == [False]


# As torchrun: it ignores SIGTERM as it is started, and its rank has a session of its own.
RANK = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path("saved").touch(), sys.exit()))
os.kill(RUNNER, signal.SIGTERM)
time.sleep(100)
"""


def test_a_training_that_is_stopped_saves(runner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rank = RANK.replace("RUNNER", str(os.getpid()))
    agent = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-S', '-c', {rank!r}], start_new_session=True)"
    )
    command = [sys.executable, "-S", "-c", agent]
    step = Step("train", "training", command, lambda: False, saves=True)
    with pytest.raises(SystemExit):
        runner.run([step])
    assert (tmp_path / "saved").exists()


def test_a_long_training_says_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(step_module, "HEARTBEAT", 0)
    line = "iteration {}/ 245 | elapsed time per iteration (ms): {} | lm loss: 3.5E+00 |"
    lines = "\n".join([line.format(1, "90000.0"), line.format(5, "12000.0")])
    running = Running(shell("long", f"echo '{lines}'"), tmp_path / "log", dict(os.environ))
    while not running.ended():
        time.sleep(0.01)
    told = "long: iteration 5 of 245, loss 3.500, about 48 minutes of it left"
    assert running.heartbeat() == told


def test_hours_left_follow_what_steps_took(tmp_path):
    costs = Costs(tmp_path / "costs.jsonl")
    step = replace(shell("a", ""), kind="perplexity 8", core_seconds=3600.0)
    other = replace(step, kind="training x", cores=2)
    assert hours_left([step, other], costs, jobs=4) == 0.25 + 0.5
    costs.add(replace(step, kind="perplexity 4"), 7200, 7000, finished=True)
    costs.add(step, 9, 9, finished=False)
    assert hours_left([step, other], Costs(costs.path), jobs=4) == 0.5 + 0.5
    assert costs.table()[1] == [
        ["perplexity 4", "2.00", "1.94"],
        ["perplexity 8", "0.00", "0.00"],
        ["all", "2.00", "1.95"],
    ]


def wait_for(run, happened, seconds=300):
    end = time.monotonic() + seconds
    while not happened():
        assert run.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_it_is_stopped_and_goes_on(toy, tmp_path):
    pytest.importorskip("wonderwords")
    out = tmp_path / "out"
    options = [*toy, *SIZES, "--windows", 256, "--tests", "perplexity noise book"]
    log = out / "logs" / "train-best.log"
    with (tmp_path / "output").open("w") as output:
        run = subprocess.Popen(
            ["bash", SCRIPT, *map(str, options)],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHON": shutil.which("python", path=str(ROOT / ".venv/bin"))},
        )
        try:
            wait_for(run, lambda: (out / "logs" / "conversion.log").exists())
            refused_by(run_command(SCRIPT, *options, code=2), "another run works there")
            wait_for(run, lambda: log.exists() and "iteration        3/" in log.read_text())
            run.send_signal(signal.SIGTERM)
            assert run.wait(120) == 128 + signal.SIGTERM
            assert subprocess.run(["pgrep", "-f", str(out)], check=False).returncode == 1
        finally:
            run.kill()
    saved = int((out / "best" / "latest_checkpointed_iteration.txt").read_text())
    assert 3 <= saved < 64  # SIGTERM saved it

    told = run_command(SCRIPT, *options, timeout=2500).stdout
    assert f"| {saved + 1}/" in re.sub(r"iteration +", "| ", log.read_text())
    table = (out / "tables.md").read_text()
    assert table in told
    for column in COLUMNS:
        assert table.count(f"| {column.label} |") == 4  # perplexity twice, two haystacks
    for name in ("perplexity", "perplexity_last", "noise", "book"):
        assert (out / f"{name}.png").exists()
    costs = [json.loads(line) for line in (out / "costs.jsonl").read_text().splitlines()]
    assert [row["finished"] for row in costs if row["kind"] == "training best"] == [False, True]
    assert all(row["core_seconds"] > 0 for row in costs)

    # Nothing is left; more trials add cells and leave the others.
    assert "all that is left: 0 steps" in run_command(SCRIPT, *options, "--dry-run").stdout
    left = run_command(SCRIPT, *options, "--trials", 2, "--dry-run").stdout
    assert "perplexity" not in left
    assert "needle noise 256: 7 steps" in left
    refused_by(run_command(SCRIPT, *options, "--tokens", 8, code=2), "--tokens 8")


def test_a_run_keeps_its_type(tmp_path):
    """Whatever this machine would choose now."""
    for dtype in ("bf16", "fp32"):
        (tmp_path / "settings.json").write_text(json.dumps({"dtype": dtype}))
        made = experiment(tmp_path, device="cpu", dtype="auto")
        assert made.settings()["dtype"] == dtype
        assert ("--bf16" in made.training("best").command) == (dtype == "bf16")
    (tmp_path / "settings.json").unlink()
    assert experiment(tmp_path, device="cpu", dtype="auto").args.dtype in ("bf16", "fp32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_gpu_that_is_not_there_can_be_planned_for(tmp_path):
    run = [SCRIPT, "--out", tmp_path / "out", "--device", "cuda"]
    assert "all that is left: " in run_command(*run, "--dry-run").stdout
    refused_by(run_command(*run, code=2), "--device cuda")
    assert not (tmp_path / "out").exists()
