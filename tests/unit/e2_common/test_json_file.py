# SPDX-License-Identifier: Apache-2.0
"""JSON of the user: what is wrong with a file is one line that names it."""

import pytest

from e2_common.errors import UserError
from e2_common.json_file import parse_json_line, read_json_object, write_json


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "x.json: cannot be read (No such file or directory); mend or replace it"),
        (b'{"a": ', "x.json: is not JSON (Expecting value: line 1 column 7 (char 6)); mend"),
        (b'{"a": "\xff"}', "x.json: is not JSON ('utf-8' codec can't decode byte 0xff"),
        (b"[1]", "x.json: is not a JSON object; mend or replace it"),
        (b"[" * 100_000, "x.json: is not JSON (maximum recursion depth exceeded"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as info:
        read_json_object(path.relative_to(tmp_path))
    assert str(info.value).startswith(message)
    assert "\n" not in str(info.value)


def test_what_was_written_is_read(tmp_path):
    content = {"label": "E2 × YaRN", "rows": [1, None, {"x": 0.1}]}
    write_json(tmp_path / "x.json", content)
    assert read_json_object(tmp_path / "x.json") == content
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "label": "E2 × YaRN",\n')
    assert text.endswith("}\n")


def test_a_line_is_named_by_its_number():
    assert parse_json_line(b'{"text": "a"}', "in.jsonl", 1) == {"text": "a"}
    with pytest.raises(UserError, match=r"^in.jsonl: line 7 is not JSON \(Expecting.*\); mend it$"):
        parse_json_line("{", "in.jsonl", 7, "mend it")
