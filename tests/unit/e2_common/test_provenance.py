# SPDX-License-Identifier: Apache-2.0
"""What a result file says of the command that made it."""

import sys
from pathlib import Path

from e2_common.provenance import command_line


def test_a_command_is_told_as_people_type_it(monkeypatch):
    python = Path(sys.executable).name
    for argv, told in (
        (["tools/report.py", "a b"], f"{python} tools/report.py 'a b'"),
        ([str(Path.cwd() / "tools" / "report.py"), "runs"], f"{python} tools/report.py runs"),
        (["/elsewhere/report.py"], f"{python} /elsewhere/report.py"),
        (["e2 report", "a b"], "e2 report 'a b'"),
    ):
        monkeypatch.setattr(sys, "argv", argv)
        assert command_line() == told
