# SPDX-License-Identifier: Apache-2.0
"""benchmarks/evaluation_ways.py: both ways are asked in turn and compared."""

import json

from benchmarks import evaluation_ways


def test_two_ways_are_timed_and_compared(model, tmp_path, capsys):
    output = tmp_path / "ways.json"
    asked = ["passkey", "--model", model, "--device", "cpu", "--windows", 400]
    asked += ["--depths", 50, "--trials", 2]
    flags = ["--second=--no-shared-prefill --batch-size 2", "--rounds", 2, "--output", output]
    evaluation_ways.main([str(word) for word in [*flags, *asked]])
    content = json.loads(output.read_text())
    assert content["ways"]["second"] == "--no-shared-prefill --batch-size 2"
    assert [len(seconds) for seconds in content["seconds"].values()] == [2, 2]
    assert (content["trials"], content["cells"]) == (2, 1)
    assert content["equal_scores"] == content["equal_answers"] == 1
    printed = capsys.readouterr().out
    assert "| `none` |" in printed
    assert "ratio" in printed
