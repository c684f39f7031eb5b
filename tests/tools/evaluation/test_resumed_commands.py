# SPDX-License-Identifier: Apache-2.0
"""A result file that several commands made names them all."""

import copy
import json

import pytest

from e2_common.errors import UserError
from e2_tools.evaluation.perplexity.results import rows_to_keep
from e2_tools.evaluation.retrieval.results import cells_to_keep
from tests.tools.reporting.results import grid, perplexity

KINDS = {
    "perplexity": (
        perplexity("E2", {128: 9.0}),
        lambda path, results: rows_to_keep(path, results, {128: 1.0}),
    ),
    "needle": (
        grid("e2-llm/needle/1", "E2") | {"chat": False},
        lambda path, results: cells_to_keep(path, results, (), lambda window: window / 128),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_is_kept_in_its_order_and_once(tmp_path, kind):
    content, keep = KINDS[kind]
    path = tmp_path / "x.json"
    commands = ["first", "second", "second", "first", "third"]
    for command in commands:
        now = copy.deepcopy(content) | {"provenance": {"command": command, "commit": "abc"}}
        if path.exists():
            assert keep(path, now) == content["results"]
        path.write_text(json.dumps(now))
    assert now["provenance"] == {
        "command": "third",
        "commit": "abc",
        "earlier_commands": ["second", "first"],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_one_command_started_again_has_none_before(tmp_path, kind):
    content, keep = KINDS[kind]
    path = tmp_path / "x.json"
    now = copy.deepcopy(content) | {"provenance": {"command": "only"}}
    path.write_text(json.dumps(now))
    keep(path, now)
    assert now["provenance"] == {"command": "only"}
    path.write_text(json.dumps(content))  # an old file says nothing
    keep(path, now)
    assert now["provenance"] == {"command": "only"}


@pytest.mark.parametrize("kind", KINDS)
def test_windows_of_another_scale_are_not_kept(tmp_path, kind):
    content, keep = KINDS[kind]
    path = tmp_path / "x.json"
    rows = [row | {"scale": 1.5} for row in content["results"]]  # as auto once meant it
    path.write_text(json.dumps(content | {"results": rows}))
    with pytest.raises(UserError, match="served at g = 1.5"):
        keep(path, copy.deepcopy(content))
