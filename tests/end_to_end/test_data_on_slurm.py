# SPDX-License-Identifier: Apache-2.0
"""examples/data/slurm.sh with a stand-in for sbatch that runs the tasks one after the other."""

import os
import shlex
import shutil
from pathlib import Path

import pytest

from e2_tools.commands.preprocess_data import main
from tests.helpers.commands import refused_by, run_command
from tests.helpers.tiny_corpus import (
    HUGGING_FACE,
    TEXTS,
    arguments,
    output_bytes,
    save_hugging_face,
    write_jsonl,
)

SBATCH = """#!/usr/bin/env bash
set -euo pipefail
printf '%q ' "$@" >> "$SUBMITTED" && echo >> "$SUBMITTED"
first=0 last=0
while [ $# -gt 0 ]; do
    case $1 in
        --array=*) range=${1#--array=} && first=${range%-*} && last=${range#*-} ;;
        --wrap) task=$2 && shift ;;
    esac
    shift
done
for i in $(seq "$first" "$last"); do
    SLURM_ARRAY_TASK_ID=$i bash -c "$task" >&2
done
echo "17;cluster"
"""


def submit(*options, code=0, **environment):
    script = [shutil.which("bash"), "examples/data/slurm.sh"]
    return run_command(*script, *options, code=code, timeout=280, **environment)


@pytest.mark.slow
def test_parts_are_made_and_joined(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sbatch").write_text(SBATCH)
    (tmp_path / "bin/sbatch").chmod(0o755)
    tokenizer = HUGGING_FACE, save_hugging_face(tmp_path / "to ken", "<eos>")
    for name in "ab":
        write_jsonl(tmp_path / f"{name} {name}.jsonl", TEXTS)
    pattern = f"{tmp_path}/???.jsonl"
    out = tmp_path / "new" / "cor pus"
    submit(
        *("--input", pattern, "--output-prefix", str(out), "--tokenizer-model", tokenizer[1]),
        *("--parts", "2", "--cpus", "1", "--sbatch", "--time=1:00:00 --partition=cpu"),
        *("--", "--encoder", "reference"),
        PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
        SUBMITTED=str(tmp_path / "submitted"),
    )
    array, join = map(shlex.split, (tmp_path / "submitted").read_text().splitlines())
    assert "--array=0-1" in array
    assert "--cpus-per-task=1" in array
    assert "--dependency=afterok:17" in join
    for job in (array, join):
        assert "--partition=cpu" in job
    main(arguments(pattern, tmp_path / "one", tokenizer, "--append-eod", "--workers", "1"))
    one = output_bytes(tmp_path / "one_text_document")
    assert output_bytes(Path(f"{out}_text_document")) == one
    assert Path(f"{out}_00001-of-00002_text_document.bin").stat().st_size > 0


def test_what_would_be_submitted(tmp_path):
    options = ("--input", "*.none", "--tokenizer-model", "m", "--output-prefix", f"{tmp_path}/p")
    found = submit(*options, "--keys", "a b", "--dry-run", "--", "--split-sentences")
    array, join = map(shlex.split, found.stdout.splitlines())
    words = shlex.split(array[-1])
    assert words[2:6] == ["--input", "*.none", "--output-prefix", f"{tmp_path}/p"]
    assert words[6:9] == ["--json-keys", "a", "b"]
    assert array[-1].endswith("--split-sentences --shard $SLURM_ARRAY_TASK_ID/8")
    for key in "ab":
        shards = f"{tmp_path}/p_?????-of-00008_{key}_sentence.idx"
        assert f"{shards} --output-prefix {tmp_path}/p_{key}_sentence" in join[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["", "option", "environment"])
def test_the_eod_is_left_out_where_texts_end_themselves(tmp_path, how):
    options = ("--input", "a", "--tokenizer-model", "m", "--dry-run", "--loss-mask-key", "k")
    variables = {"NO_APPEND_EOD": "1"} if how == "environment" else {}
    found = submit(*options, *["--no-append-eod"] * (how == "option"), **variables)
    array = shlex.split(shlex.split(found.stdout.splitlines()[0])[-1])
    assert ("--append-eod" in array) == (not how)
    assert array[array.index("--loss-mask-key") + 1] == "k"


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ((), "--input"),
        (("--input", "a"), "--tokenizer-model"),
        (("--input", "a", "--tokenizer-model", "m", "--parts", "0"), "--parts 0"),
        (("--input", "a", "--tokenizer-model", "m", "--cpus", "x"), "--cpus x"),
        (("--input",), "--input needs a value"),
        (("--inputs", "a"), "--inputs"),
        (("--input", "a", "--tokenizer-model", "m"), "sbatch: not here"),
    ],
)
def test_refusals(options, culprit, tmp_path):
    (tmp_path / "dirname").symlink_to(shutil.which("dirname"))  # and no sbatch
    refused_by(submit(*options, code=2, PATH=str(tmp_path)), culprit)


def test_help():
    assert "usage: examples/data/slurm.sh" in submit("--help").stdout
