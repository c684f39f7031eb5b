# SPDX-License-Identifier: Apache-2.0
"""Commands of README and docs exist: scripts, and every flag given to them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
SUBCOMMANDS = "predict|score|pile|sharegpt|longsum|text"
SCRIPT = re.compile(
    rf"((?:tools|examples)/[\w/]+\.py(?: (?:{SUBCOMMANDS})\b)?|(?:pretrain_e2|train_e2_hf)\.py)(.*)"
)


def commands():
    """Script, and subcommand, -> flags, from the shell blocks."""
    found = {}
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            script = SCRIPT.search(line)
            if script:
                found.setdefault(script[1], set()).update(re.findall(r"(?<!\S)--[\w-]+", script[2]))
    return found


@pytest.mark.parametrize("script", sorted(commands()))
def test_every_flag_is_known(script):
    result = subprocess.run(
        [sys.executable, *script.split(), "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    known = set(re.findall(r"--[\w-]+", result.stdout))
    assert commands()[script] <= known
