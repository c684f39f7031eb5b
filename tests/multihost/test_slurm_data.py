# SPDX-License-Identifier: Apache-2.0
"""examples/data/slurm.sh on a real Slurm of one node: an array of parts, and the job that joins."""

import sys
from pathlib import Path

import pytest

from e2_tools.commands.preprocess_data import main
from tests.helpers.tiny_corpus import (
    HUGGING_FACE,
    TEXTS,
    arguments,
    output_bytes,
    save_hugging_face,
    write_jsonl,
)
from tests.multihost.hosts import ROOT, wait_for
from tests.multihost.slurm import cluster, missing

REASON = missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(900),
]


def test_an_array_and_the_job_that_joins(tmp_path):
    tokenizer = HUGGING_FACE, save_hugging_face(tmp_path / "tokenizer", "<eos>")
    for name in "ab":
        write_jsonl(tmp_path / f"{name}.jsonl", TEXTS)
    pattern, out = f"{tmp_path}/?.jsonl", tmp_path / "out" / "corpus"
    main(arguments(pattern, tmp_path / "one", tokenizer, "--append-eod", "--workers", "1"))
    (tmp_path / "slurm").mkdir()
    with cluster(tmp_path / "slurm") as slurm:
        shown = slurm(
            *("bash", ROOT / "examples/data/slurm.sh", "--input", pattern, "--output-prefix", out),
            *("--tokenizer-model", tokenizer[1], "--parts", "2", "--cpus", "1"),
            PYTHON=sys.executable,
        )
        join = shown.split()[-1]  # Submitted batch job 2
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
        wait_for(lambda: slurm.state(join) in over, 800, "the job that joins")
        logs = "".join(path.read_text() for path in out.parent.glob("*.log"))
        assert slurm.state(join) == "COMPLETED", logs
    assert logs.count("Wrote ") == 2
    assert logs.count("Joined 2 datasets") == 1
    one = output_bytes(tmp_path / "one_text_document")
    assert output_bytes(Path(f"{out}_text_document")) == one
