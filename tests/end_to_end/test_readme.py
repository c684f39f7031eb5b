# SPDX-License-Identifier: Apache-2.0
"""README's commands exist: every script it runs, and every flag it gives to it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands():
    """script -> flags, from the shell blocks of README."""
    found = {}
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            script = re.search(r"(tools/\w+\.py|pretrain_e2\.py)(.*)", line)
            if script:
                found.setdefault(script[1], set()).update(re.findall(r"(?<!\S)--[\w-]+", script[2]))
    return found


@pytest.mark.parametrize("script", sorted(commands()))
def test_every_flag_is_known(script):
    result = subprocess.run(
        [sys.executable, script, "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    known = set(re.findall(r"--[\w-]+", result.stdout))
    assert commands()[script] <= known


def test_every_e2_flag_is_in_the_table():
    from megatron_patches.config import E2Config, flag_name

    for name, field in E2Config.__dataclass_fields__.items():
        if field.metadata:
            assert f"`{flag_name(name)}" in README


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
