# SPDX-License-Identifier: Apache-2.0
"""examples/evaluation/run.sh: texts are checked first, and a step that fails costs nothing else."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from tests.helpers import ROOT
from tests.helpers.commands import run_command

STEPS = ["perplexity", "ruler", "passkey", "needle", "longbench", "attention"]
# Makes the tasks and joins the texts really; the dear commands are only written down, and fail if
# asked to.
STAND_IN = f"""#!/usr/bin/env bash
case $1 in
    -c | examples/*) exec {sys.executable} "$@" ;;
esac
echo "${{1##*/}} $2" >> "$LOG"
for name in $FAIL; do [[ $1 != *"$name"* ]] || exit "$CODE"; done
"""


def run(tmp_path, held_out, fail="", code=2, more=()):
    """Start the script; return its exit code, the commands it ran, and what it said."""
    stand_in = tmp_path / "python"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    (tmp_path / "model").mkdir()
    log = tmp_path / "log"
    log.touch()
    told = {"PYTHON": str(stand_in), "LOG": str(log), "FAIL": fail, "CODE": str(code)}
    flags = ["--model", tmp_path / "model", "--held-out", held_out, "--out", tmp_path / "out"]
    flags += ["--records", "2", *more]
    done = subprocess.run(
        ["bash", "examples/evaluation/run.sh", *map(str, flags)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | told | {"PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    return done.returncode, log.read_text().split("\n"), done.stderr


@pytest.fixture
def held_out(tmp_path):
    """Texts without an id, with U+2028 in them and a blank line between."""
    words = [f"w{n}{'. So' if n % 12 == 11 else ''}" for n in range(20000)]
    text = " ".join(words).replace(" ", " \u2028", 1)
    lines = [json.dumps({"text": part}, ensure_ascii=False) for part in (text, text[::-1], text)]
    path = tmp_path / "held_out.jsonl"
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_texts_of_any_kind_go_through_all_steps(tmp_path, held_out):
    code, commands, _ = run(tmp_path, held_out)
    assert code == 0
    assert [line.split()[0].removesuffix(".py") for line in commands if line] == [
        *("evaluate_perplexity", "evaluate_ruler", "evaluate_passkey", "evaluate_needle"),
        *("evaluate_longbench", "evaluate_longbench", "plot_attention", "report"),
    ]
    assert (tmp_path / "out" / "text.txt").read_text().count("\u2028") == 3


@pytest.mark.parametrize("fail", ["passkey", " ".join(STEPS)])
def test_a_step_that_fails_never_costs_the_page(tmp_path, held_out, fail):
    code, commands, told = run(tmp_path, held_out, fail)
    ran = " ".join(commands)
    assert code == 1
    assert all(step in ran for step in [*STEPS, "report.py"])
    for step in fail.split():
        name = {"longbench": "tasks", "ruler": "RULER"}.get(step, step)
        assert f"{name} failed (exit code 2)" in told


def test_the_model_before_is_asked_the_same(tmp_path, held_out):
    """Of the same name, even: the page can tell them apart."""
    base = tmp_path / "before" / "model"
    base.mkdir(parents=True)
    code, _, told = run(tmp_path, held_out, "passkey", more=["--base", base])
    assert code == 1
    assert "passkey, before failed (exit code 2)" in told
    dry = ["--model", "m", "--base", "b/m", "--out", "o", "--dry-run"]
    lines = run_command("examples/evaluation/run.sh", *dry).stdout.splitlines()
    commands = [shlex.split(line) for line in lines if "evaluate_" in line and "score" not in line]
    half = len(commands) // 2
    for before, after in zip(commands[:half], commands[half:], strict=True):
        changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
        assert changed[0] == ("b/m", "m")
        assert all(a.startswith(("m, before", "o/before")) for a, _ in changed[1:])
    assert "--order 'm, before' m" in lines[-1] or "--order m\\,\\ before m" in lines[-1]


def test_who_stops_a_step_stops_the_script(tmp_path, held_out):
    found, commands, _ = run(tmp_path, held_out, "passkey", 130)
    assert found == 130
    assert "needle" not in " ".join(commands)


@pytest.mark.parametrize(
    ("content", "words"),
    [('{"text": 3}\n', "'text'"), ('{"text": "too short."}\n', "--words")],
)
def test_bad_texts_are_told_before_anything_dear(tmp_path, content, words):
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text(content)
    code, commands, told = run(tmp_path, held_out)
    (error,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert (code, commands) == (2, [""])
    assert words in error
