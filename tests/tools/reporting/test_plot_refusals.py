# SPDX-License-Identifier: Apache-2.0
"""What plot_results.py puts together is of one kind; broken numbers are told in one line."""

import copy
import json

import pytest

from e2_tools.commands.plot_results import main
from tests.helpers.commands import refused
from tests.tools.reporting.results import grid, perplexity, ruler

FILES = {
    "perplexity": perplexity("E2", {128: 9.0, 256: 8.0}),
    "needle": grid("e2-llm/needle/1", "E2"),
    "ruler": ruler("E2", {256: {"vt": 1.0}}),
}
TOGETHER = {"perplexity": ["--seeds"], "needle": ["--seeds"], "ruler": ["--kind", "depth"]}


def run(*arguments):
    main([str(argument) for argument in arguments])


def written(folder, *contents):
    paths = [folder / f"{number}.json" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(json.dumps(content))
    return paths


@pytest.mark.parametrize("kind", FILES)
def test_runs_at_other_scales_or_one_file_twice_are_no_seeds(tmp_path, capsys, kind):
    one, other = FILES[kind], copy.deepcopy(FILES[kind])
    for row in other["results"]:
        row["scale"] = 7.0
    paths = written(tmp_path, one, other)
    flags = [*TOGETHER[kind], "--output", tmp_path / "p.png"]
    refused(capsys, ["1.json", "g = 7", "no seeds", "--labels"], run, *paths, *flags)
    refused(capsys, ["0.json", "named twice"], run, paths[0], paths[0], *flags)
    run(*paths, *flags, "--labels", "one", "other")


@pytest.mark.parametrize("flags", [["--seeds"], ["--kind", "depth"], []])
def test_other_questions_are_told_of_but_seeds_may_be_meant(tmp_path, capsys, flags):
    one = FILES["needle"] | {"seed": 0, "haystack": "noise"}
    flags = [*flags, "--output", tmp_path / "p.png"]
    run(*written(tmp_path, one, one | {"haystack": "essay"}), *flags)
    assert "differ in haystack" in capsys.readouterr().err
    run(*written(tmp_path, one, one | {"seed": 1}), *flags)
    assert ("differ in seed" in capsys.readouterr().err) == (len(flags) == 2)


def places(content):
    """Every number that a picture or a table is made of."""
    for number, row in enumerate(content["results"]):
        for name, value in row.items():
            if name in ("window", "scale", "perplexity", "trials", "correct", "accuracy"):
                yield number, name, value


@pytest.mark.parametrize("wrong", ["x", float("nan"), [], {}, True, 10**400])
@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_number_is_told(tmp_path, capsys, kind, wrong):
    for number, name, _ in [*places(FILES[kind])][-8:]:
        content = copy.deepcopy(FILES[kind])
        content["results"][number][name] = wrong
        (path,) = written(tmp_path, content)
        for flags in ([], [*TOGETHER[kind]]):
            refused(capsys, "0.json", run, path, *flags, "--output", tmp_path / "p.png")
    assert not (tmp_path / "p.png").exists()
