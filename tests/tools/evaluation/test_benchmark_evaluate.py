# SPDX-License-Identifier: Apache-2.0
"""benchmarks/evaluate.py at a tiny shape: both ways agree, and it notices when they do not."""

import json

from benchmarks import evaluate
from tests.helpers.commands import refused

TINY = "--layers 1 --hidden-size 192 --vocabulary 256 --window 64 --stride 16 --slides 3".split()


def test_both_ways_agree_and_are_measured(tmp_path, capsys):
    output = tmp_path / "speed.json"
    evaluate.main([*TINY, "--rounds", "2", "--device", "cpu", "--output", str(output)])
    content = json.loads(output.read_text())
    (row,) = content["results"]
    assert row["tokens"] == 64 + 2 * 16
    assert row["relative_difference"] < evaluate.TOLERANCE
    assert [len(seconds) for seconds in row["seconds"].values()] == [2, 2]
    assert content["provenance"]["hardware"]["cores"]
    head, _, line = capsys.readouterr().out.splitlines()
    assert line.count("|") == head.count("|")


def test_different_numbers_are_no_result(tmp_path, monkeypatch, capsys):
    loop = evaluate.loop_of_the_documentation
    monkeypatch.setattr(
        evaluate, "loop_of_the_documentation", lambda *args: loop(*args) * (1 + 1e-5)
    )
    command = [*TINY, "--rounds", "1", "--device", "cpu"]
    refused(capsys, "error: the means differ", evaluate.main, command, alone=False)
