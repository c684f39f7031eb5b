# SPDX-License-Identifier: Apache-2.0
"""Commands of README and docs/evaluation.md exist: scripts, and every flag given to them."""

import re

import pytest

from tests.helpers import ROOT
from tests.helpers.commands import run_command

README = (ROOT / "README.md").read_text(encoding="utf-8")
EVALUATION = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
SCRIPT = re.compile(r"((?:tools|examples)/[\w/]+\.py(?: predict| score)?|pretrain_e2\.py)(.*)")


def commands():
    """Script, and subcommand, -> flags, from the shell blocks."""
    found = {}
    for block in re.findall(r"```bash\n(.*?)```", README + EVALUATION, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            script = SCRIPT.search(line)
            if script:
                found.setdefault(script[1], set()).update(re.findall(r"(?<!\S)--[\w-]+", script[2]))
    return found


@pytest.mark.parametrize("script", sorted(commands()))
def test_every_flag_is_known(script):
    result = run_command(*script.split(), "--help", PYTHONWARNINGS="ignore")
    known = set(re.findall(r"--[\w-]+", result.stdout))
    assert commands()[script] <= known


def test_every_e2_flag_is_in_the_table():
    from e2_llm.config import E2Config, flag_name

    for name, field in E2Config.__dataclass_fields__.items():
        if field.metadata:
            assert f"`{flag_name(name)}" in README


def test_links_and_pictures_exist():
    for folder, page in ((ROOT, README), (ROOT / "docs", EVALUATION)):
        for target in re.findall(r"\]\(([^)#]+)", page):
            assert target.startswith("https://") or (folder / target).exists(), target
