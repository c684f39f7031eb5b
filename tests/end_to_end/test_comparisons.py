# SPDX-License-Identifier: Apache-2.0
"""The runs of many methods: examples/position_methods and, by its machinery, examples/ablations.

With a stand-in for python every command line of them is made, and none is run. The slow test runs
a few arms of each at tiny sizes.
"""

import json
import math
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tests.end_to_end.command_lines import refusals
from tests.helpers import ROOT
from tests.helpers.commands import refused_by, run_command

LISTS = {
    "position_methods": ("methods.txt", "search.txt"),
    "ablations": ("arms.txt",),
}
SEEDS = {"position_methods": (3,), "ablations": (1, 2)}
TOKENS = {"language": 16 * 128, "retrieval": 16 * 64}  # a step
STAND_IN = ROOT / "tests" / "end_to_end" / "stand_in_python.sh"


def lines_of(example, file):
    """Name -> the line that begins with it, blanks apart."""
    text = (ROOT / "examples" / example / file).read_text()
    lines = [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
    names = [line.split()[0] for line in lines]
    assert not [name for name, times in Counter(names).items() if times > 1], file
    return dict(zip(names, lines, strict=True))


def seeds_of(example):
    return " ".join(map(str, SEEDS[example]))


def run(example, out, *options, python=STAND_IN, **more):
    script = f"examples/{example}/run.sh"
    more = {"PYTHON": python, "CALLS": out.with_suffix(".calls"), **more}
    return run_command(script, "--out", out, *options, **more)


def calls(out):
    """Command lines of a run with the stand-in, as lists of words."""
    return [line.split("\x1f")[:-1] for line in out.with_suffix(".calls").read_text().splitlines()]


def value(words, flag):
    """What last follows a flag: the one that argparse takes."""
    places = [n for n, word in enumerate(words) if word == flag]
    return words[places[-1] + 1]


def trainings(out):
    """Task and folder -> what follows pretrain_e2.py."""
    found = {}
    for words in calls(out):
        if words[0] == "tools/show_progress.py":
            folder = Path(value(words, "--save")).relative_to(out)
            found[str(folder)] = words[words.index("pretrain_e2.py") + 1 :]
    return found


@pytest.fixture(scope="module", params=list(LISTS))
def made(request, tmp_path_factory):
    """An example, and the folder of a whole run of it with the stand-in."""
    out = tmp_path_factory.mktemp(request.param) / "out"
    run(request.param, out, "--seeds", seeds_of(request.param), "--jobs", "4")
    return request.param, out


def test_every_line_is_trained_or_evaluates_another_s_model(made):
    example, out = made
    lines = lines_of(example, LISTS[example][0])
    for task in TOKENS:
        models = {
            Path(value(words, "--model")).relative_to(out / task)
            for words in calls(out)
            if words[0].startswith("tools/evaluate") and task in words[words.index("--model") + 1]
        }
        for seed in SEEDS[example]:
            tuned = {name for name, line in lines.items() if "--position-method" in line}
            folders = [
                Path(name) for name in trainings(out) if name.startswith(f"{task}/seed{seed}")
            ]
            assert {folder.name for folder in folders} == tuned | {"base"} | (
                {"near"} if task == "retrieval" else set()
            )
            for name in lines:
                ending = "" if task == "language" else "-noise"
                assert (out / task / f"seed{seed}" / f"{name}{ending}.json").exists()
            assert {Path(f"seed{seed}/{name}-hf") for name in tuned} <= models
            assert Path(f"seed{seed}/base-hf") in models


def test_all_see_equally_many_tokens_from_the_same_model(made):
    _, out = made
    windows = set()
    for folder, words in trainings(out).items():
        task, seed, name = folder.split("/")
        if name in ("base", "near"):
            continue
        length, batch = (
            int(value(words, flag)) for flag in ("--seq-length", "--global-batch-size")
        )
        assert length * batch == TOKENS[task], folder
        assert batch % int(value(words, "--micro-batch-size")) == 0
        assert value(words, "--pretrained-checkpoint") == str(out / task / seed / "base")
        base = TOKENS[task] // 16
        said = "--e2-base-window" if length > base else "--max-position-embeddings"
        assert int(value(words, said)) == base
        if task == "retrieval":
            assert value(words, "--train-data-path").endswith(f"train_{length}_text_document")
        windows.add(length / base)
    assert windows == ({0.5, 1, 2} if made[0] == "ablations" else {1})


def test_pictures_have_all_seeds_of_their_arms(made):
    example, out = made
    pictures = {}
    for words in calls(out):
        if words[0] == "tools/plot_results.py" and "--seeds" in words:
            files = [Path(word).relative_to(out) for word in words[1 : words.index("--seeds")]]
            pictures[Path(value(words, "--output")).stem] = files
    groups = {"": list(lines_of(example, LISTS[example][0]))}
    if example == "ablations":
        drawn = [line.split("|") for line in lines_of(example, "pictures.txt").values()]
        groups = {f"{name.strip()}_": arms.split() for name, _, arms in drawn}
        assert set().union(*groups.values()) == set(lines_of(example, "arms.txt"))
    endings = {
        "perplexity": ("language", ""),
        "recall_noise": ("retrieval", "-noise"),
        "recall_spans": ("retrieval", "-spans"),
    }
    expected = {
        f"{group}{picture}": [
            Path(f"{task}/seed{seed}/{arm}{ending}.json") for arm in arms for seed in SEEDS[example]
        ]
        for group, arms in groups.items()
        for picture, (task, ending) in endings.items()
    }
    if example == "ablations":
        looked_at = [
            Path(f"language/seed{seed}/{arm}-attention.json")
            for arm in ("base", "e2", "no_offset", "fixed16")
            for seed in SEEDS[example]
        ]
        expected |= {"attention_first": looked_at, "attention_last": looked_at}
    assert pictures == expected


def test_a_checkpoint_on_the_way_is_one_that_was_saved(made):
    example, out = made
    shown = {}
    for words in calls(out):
        if words[0] == "tools/evaluate_perplexity.py" and "iter_" in value(words, "--model"):
            shown[value(words, "--label")] = Path(value(words, "--model")).name
    saved = {f"E2, {n}/5 of the steps": f"iter_{50 * n:07d}-hf" for n in range(1, 5)}
    assert shown == (saved if example == "ablations" else {})


def test_a_second_run_trains_and_evaluates_nothing(made):
    example, out = made
    before = len(calls(out))
    run(example, out, "--seeds", seeds_of(example))
    again = {words[0] for words in calls(out)[before:]}
    assert again <= {"tools/plot_results.py", "-c"}


@pytest.mark.parametrize(
    ("example", "options", "folder", "task", "arms"),
    [
        (
            *("domains", ["--kinds", "python"], "python/language", "perplexity"),
            ["base", "base_yarn", "control_yarn"],
        ),
        (
            *("retrieval", [], "retrieval", "recall"),
            ["base", "base_linear", "base_yarn", "control_yarn"],
        ),
    ],
)
def test_one_half_alone(tmp_path, example, options, folder, task, arms):
    out = tmp_path / example
    run(example, out, *options, "--seeds", "1 2")
    told = calls(out)
    trained = {value(words, "--save") for words in told if words[0] == "tools/show_progress.py"}
    tuned = ["control", "e2", "best"]
    names = ["base", *tuned, *(["near"] if task == "recall" else [])]
    assert trained == {f"{out / folder}/seed{seed}/{name}" for seed in (1, 2) for name in names}
    asked = {words[0] for words in told if words[0].startswith("tools/evaluate")}
    assert asked == {f"tools/evaluate_{task}.py"}
    pictures = [
        words for words in told if words[0] == "tools/plot_results.py" and "--seeds" in words
    ]
    assert len(pictures) == 2
    results = 2 * (len(arms) + len(tuned))
    assert all(words.index("--seeds") == 1 + results for words in pictures)
    for words in told:
        if words[0] == "examples/quickstart/prepare.py":
            assert value(words, "--texts") == str(out / "python.jsonl")


@pytest.mark.slow
def test_megatron_takes_every_training(made):
    example, out = made
    # One task and seed: the flags of the arms are the same in all.
    language = f"language/seed{SEEDS[example][0]}/"
    commands = {
        folder: ["1", *words] for folder, words in trainings(out).items() if language in folder
    }
    assert commands
    for words in commands.values():
        # What the stand-in left empty.
        for flag in ("--train-data-path", "--tokenizer-model", "--pretrained-checkpoint", "--load"):
            if flag in words:
                place = words.index(flag)
                del words[place : place + 2]
        words[words.index("--tokenizer-type") + 1] = "NullTokenizer"
        words += ["--vocab-size", "100", "--mock-data"]
    assert refusals(commands) == {}


def test_a_name_means_the_same_in_both_lists():
    """They may share a folder of results."""
    methods, arms = lines_of("position_methods", "methods.txt"), lines_of("ablations", "arms.txt")
    shared = methods.keys() & arms.keys()
    assert {"base", "base_linear", "e2"} <= shared
    assert {name: arms[name] for name in shared} == {name: methods[name] for name in shared}
    assert not lines_of("position_methods", "search.txt").keys() & arms.keys()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("a | A | --x | | window=3", ("arm a", "window=3", "16 windows")),
        ("a | A | --x | | window=2/3", ("arm a", "window=2/3", "64 tokens")),
        ("a | A | --x | | window=0", ("arm a", "window=0", "window=1/2")),
        ("a | A | --x | | windows=2", ("arm a", "windows=2", "window=1/2")),
        ("a | A | --x | | saves=x", ("arm a", "saves=x", "saves=5")),
        ("a | A | --x | | part=1/5", ("arm a", "part=1/5", "without tuning")),
        ("a | A | | | saves=5", ("arm a", "saves=5", "with tuning")),
        ("a | A | | | model=$(touch pwned)", ("arm a", "model=$(touch")),
        ("a | A | | | part=a[$(touch", ("arm a", "part=a[$(touch")),
        ("a/b | A | |", ("a/b", "letters")),
        ("a | A | |\na | B | |", ("two methods", "a")),
        ("a | A | | | model=b\nb | B | --x |", ("a evaluates the model of b",)),
    ],
)
def test_a_line_that_cannot_be_meant(tmp_path, lines, words):
    (tmp_path / "list").write_text(f"# a comment\n{lines}\n")
    out = tmp_path / "out"
    refused_by(run("position_methods", out, "--methods", tmp_path / "list", code=2), words)
    assert not out.exists()
    assert not (ROOT / "pwned").exists()


@pytest.mark.parametrize(
    ("example", "options", "words"),
    [
        ("position_methods", ["--methods", "nosuch"], "--methods nosuch"),
        ("position_methods", ["--pictures", "nosuch"], "--pictures nosuch"),
        ("position_methods", ["--only", "nosuch"], "--only nosuch"),
        ("ablations", ["--only", "base steps1"], "steps1 evaluates the model of steps"),
    ],
)
def test_what_is_not_there(tmp_path, example, options, words):
    refused_by(run(example, tmp_path / "out", *options, code=2), words)
    assert not (tmp_path / "out").exists()


SMALL = ["--seeds", "1", "--base-steps", "6", "--tune-steps", "5", "--documents", "1"]
SMALL += ["--document-tokens", "2100", "--windows", "128 256", "--recall-base-steps", "6"]
SMALL += ["--recall-tune-steps", "5", "--trials", "1", "--recall-windows", "64 128", "--jobs", "2"]
ARMS = "base e2 window_half window_double steps steps2 gmax4 gmax4_g8"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_both_runs_at_tiny_sizes(tmp_path):
    """In one folder, as they may share it: the second one finds base models and e2 there."""
    out = tmp_path / "out"
    real = {"python": sys.executable, "timeout": 1200}
    first = run("position_methods", out, *SMALL, "--only", "base base_yarn e2", **real)
    assert first.stdout.count("| base, YaRN, untuned |") == 3
    shared = (out / "language" / "seed1" / "e2.json").stat().st_mtime_ns
    second = run("ablations", out, *SMALL, "--only", ARMS, **real)
    assert (out / "language" / "seed1" / "e2.json").stat().st_mtime_ns == shared
    for label in ("R = 2 L", "E2, 2/5 of the steps", "G_max 4, g = 8"):
        assert second.stdout.count(f"| {label} |") == 3
    for picture in ("table4_perplexity", "window_recall_noise", "attention_first"):
        with Image.open(out / f"{picture}.png") as image:
            assert image.width > 800
    perplexity = {}
    for name in ARMS.split():
        rows = json.loads((out / "language" / "seed1" / f"{name}.json").read_text())["results"]
        perplexity[name] = [row["perplexity"] for row in rows]
        assert all(map(math.isfinite, perplexity[name]))
        assert [row["scale"] for row in rows] == ([8, 8] if name == "gmax4_g8" else [1, 2])
    assert perplexity["steps"] == perplexity["e2"]  # the same training, saved more often
    assert perplexity["steps2"] != perplexity["e2"]
