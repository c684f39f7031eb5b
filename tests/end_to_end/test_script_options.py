# SPDX-License-Identifier: Apache-2.0
"""The options of the example scripts: a mistake is one line and exit code 2, never bash's own."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [
    "quickstart/run",
    "position_methods/run",
    "ablations/run",
    "evaluation/run",
    "evaluation/short",
    "retrieval/run",
]
SCRIPTS += ["data/slurm", "domains/run", "smollm2_135m/extend/run"]
SCRIPTS += ["hf_lora/run", "quickstart/on_transformers"]
SCRIPTS += [f"llama2_7b/{name}" for name in ("convert", "train", "evaluate")]


def script(name, *options, **environment):
    return subprocess.run(
        ["bash", f"examples/{name}.sh", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHON": "false", **environment},
    )


def expect_refusal(line, name, *options, **environment):
    run = script(name, *options, **environment)
    assert (run.returncode, run.stdout, run.stderr.splitlines()) == (2, "", [f"error: {line}"])


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("word", ["--what", "--o", "stray"])
def test_an_unknown_word(name, word):
    expect_refusal(f"unknown option {word}; see --help", name, word, "3")


def test_words_for_a_command_where_there_is_none():
    expect_refusal("unknown option --; see --help", "quickstart/run", "--", "--lr", "1")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("quickstart/run", ["--out"]),
        ("quickstart/run", ["--ranks", ""]),
        ("position_methods/run", ["--seeds", "1", "--windows"]),
        ("ablations/run", ["--seeds"]),
        ("llama2_7b/train", ["--dry-run", "--tp"]),
    ],
)
def test_a_missing_value(name, options):
    flag = next(word for word in reversed(options) if word)
    expect_refusal(f"{flag} needs a value", name, *options)


COUNT = "must be a whole number from 1 on"
COUNTS = "must be whole numbers from 1 on, as one word"


@pytest.mark.parametrize(
    ("name", "flag", "value", "reason"),
    [
        ("quickstart/run", "--ranks", "x", COUNT),
        ("quickstart/run", "--ranks", "0", COUNT),
        ("position_methods/run", "--tune-steps", "08", COUNT),  # octal to bash
        ("position_methods/run", "--seeds", "0 x", "must be whole numbers from 0 on, as one word"),
        ("position_methods/run", "--windows", " ", COUNTS),
        ("evaluation/run", "--trials", "1.5", COUNT),
        ("evaluation/short", "--window", "4k", COUNT),
        ("evaluation/short", "--shots", "-1", "must be a whole number from 0 on"),
        ("llama2_7b/evaluate", "--windows", "128,256", COUNTS),
        ("llama2_7b/train", "--nodes", "two", COUNT),
        ("llama2_7b/train", "--tp", "a[$(touch pwned)]", COUNT),  # bash's arithmetic would run it
        ("llama2_7b/train", "--max-restarts", "-1", "must be a whole number from 0 on"),
        ("llama2_7b/train", "--hours", "x", "is no number of hours"),
        ("data/slurm", "--cpus", "x", COUNT),
        (
            "smollm2_135m/extend/run",
            "--depths",
            "0 x",
            "must be whole numbers from 0 on, as one word",
        ),
        (
            "smollm2_135m/extend/run",
            "--batch",
            "3",
            "is no multiple of --ranks 2 times --micro-batch 1",
        ),
    ],
)
def test_a_value_that_is_no_number(name, flag, value, reason):
    expect_refusal(f"{flag} {value}: {reason}", name, flag, value, MASTER_ADDR="first")
    assert not (ROOT / "pwned").exists()


def test_numbers_from_the_environment_are_checked_too():
    expect_refusal("--nodes x: must be a whole number from 1 on", "llama2_7b/train", NODES="x")


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name):
    run = script(name, "--help")
    assert run.returncode == 0
    assert run.stdout.startswith(f"usage: examples/{name}.sh")
    assert run.stderr == ""


def test_what_follows_two_hyphens_is_passed_on():
    run = script("llama2_7b/train", "--dry-run", "--tp", "4", "--", "--help", "a b")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].endswith(r"--help a\ b ")


@pytest.mark.parametrize("name", ["quickstart/run", "quickstart/on_transformers"])
def test_a_type_that_the_quickstart_does_not_train_in(name):
    expect_refusal("--dtype fp8: auto, fp32 or bf16", name, "--dtype", "fp8")
