# SPDX-License-Identifier: Apache-2.0
"""The benchmarks of preprocess_data.py at a tiny size: what they write, not how long it took."""

import gzip
import io
import json
import shutil
import sys
import tarfile

import pytest

from benchmarks.preprocess import FAST, OURS, REFERENCE, begun, build_parser, table
from benchmarks.processes import measured
from e2_common.errors import UserError
from tests.helpers.commands import refused_by, run_command
from tests.helpers.quick_python import quick_python
from tests.helpers.tiny_corpus import TEXTS, save_hugging_face, write_jsonl


def benchmark(name, *arguments, code=0):
    more = {"timeout": 290, "PYTHON": quick_python()}
    return run_command(f"benchmarks/{name}.py", *arguments, code=code, **more)


@pytest.fixture
def arguments(tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", TEXTS * 20)
    tokenizer = save_hugging_face(tmp_path / "tokenizer", "<eos>")
    return ("--input", source, "--tokenizer", tokenizer, "--output", str(tmp_path / "out.json"))


def test_both_sides_are_timed_and_compared(arguments, tmp_path):
    benchmark("preprocess", *arguments, "--workers", "2", "--rounds", "1")
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["schema"] == "e2-llm/preprocess-speed/1"
    assert result["documents"] == len(TEXTS) * 20
    assert [(row["side"], row["workers"]) for row in result["runs"]] == [(REFERENCE, 2), (OURS, 2)]
    assert all(row["start_cpu_seconds"] > 0 for row in result["runs"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.json", "tokenizer"]
    other = ("--input", write_jsonl(tmp_path / "other.jsonl", TEXTS))
    with pytest.raises(UserError, match="of another text or tokenizer"):
        begun(build_parser().parse_args([*arguments, *other]))


def test_a_text_that_took_no_longer_than_the_start_has_no_speed():
    times = {"seconds": 0.0, "cpu_seconds": -0.01, "parent_cpu_seconds": 0.0}
    rows = [{"workers": 1, "side": side, **times} for side in (REFERENCE, OURS)]
    settings = {"input_bytes": 10}
    told = table({"settings": settings, "tokens": 3, "documents": 1, "runs": rows})
    assert "1 workers: - times as fast, - times as many tokens a CPU second" in told


def test_a_race_is_of_whole_processes(arguments, tmp_path):
    tool = tmp_path / "checkout" / "tools" / "preprocess_data_fast.py"
    refused_by(benchmark("preprocess", *arguments, "--megatron-lm", tmp_path, code=2), "2026")
    tool.parent.mkdir(parents=True)
    tool.write_text("import os; assert os.environ['PYTHONPATH'].endswith('checkout')")
    race = ("--megatron-lm", tmp_path / "checkout", "--rounds", "2", "--workers", "1")
    told = benchmark("preprocess", *arguments, *race).stdout
    rows = json.loads((tmp_path / "out.json").read_text())["race"]
    assert [row["side"] for row in rows] == [OURS, FAST, FAST, OURS]
    assert f"| {FAST} | 2 |" in told
    assert "ours: 0." in told  # the fast one did nothing


@pytest.mark.slow
def test_memory_is_measured(arguments, tmp_path):
    benchmark("preprocess_memory", *arguments, "--gigabytes", "0.0001", "0.0005")
    small, large = json.loads((tmp_path / "out.json").read_text())["runs"]
    assert 100_000 <= small["input_bytes"] < 150_000 < large["input_bytes"]
    assert min(small["peak_bytes"], large["peak_bytes"]) > 2**26


def test_the_table_shows_medians():
    times = {REFERENCE: (30.0, 50.0, 40.0), OURS: (4.0, 8.0, 2.0)}
    result = {
        "settings": {"input_bytes": 200e6},
        "tokens": 80_000_000,
        "documents": 10,
        "runs": [
            {
                "side": side,
                "workers": 1,
                "seconds": s,
                "cpu_seconds": 2 * s,
                "parent_cpu_seconds": 1,
            }
            for side, rows in times.items()
            for s in rows
        ],
    }
    shown = table(result)
    assert "| 1 | reference pipeline | 3 | 40.0 | 2.00 | 80.0 | 1.00 | 1.0 |" in shown
    assert "| 1 | preprocess_data.py | 3 | 4.0 | 20.00 | 8.0 | 10.00 | 1.0 |" in shown
    assert "1 workers: 10.0 times as fast, 10.0 times as many tokens a CPU second" in shown


def test_all_processes_of_a_command_are_measured():
    hold = "x = b'a' * 60_000_000; import time; time.sleep(1.5)"
    parent = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {hold!r}]); {hold}"
    )
    spin = "; import time; t = time.process_time()\nwhile time.process_time() < t + 0.3: pass"
    found = measured([sys.executable, "-c", parent + "; p.wait()" + spin], memory=True)
    assert 110_000_000 < found.peak_bytes < 400_000_000
    assert found.seconds > found.cpu_seconds > 0.3
    with pytest.raises(UserError, match="exit code 3: last"):
        measured([sys.executable, "-c", "import sys; print('last', file=sys.stderr); sys.exit(3)"])


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="not on Debian")
def test_text_out_of_packages(tmp_path):
    package = tmp_path / "package"
    for name in ("DEBIAN", "usr/doc", "usr/dictd", "usr/src"):
        (package / name).mkdir(parents=True)
    control = "Package: a\nVersion: 1\nArchitecture: all\nMaintainer: a\nDescription: a\n"
    (package / "DEBIAN/control").write_text(control)
    (package / "usr/doc/a.txt").write_text("prose é\n")
    (package / "usr/doc/again.rst.gz").write_bytes(gzip.compress("prose é\n".encode()))
    (package / "usr/doc/image.png").write_bytes(b"\xff")
    (package / "usr/dictd/a.dict.dz").write_bytes(gzip.compress(b"x\xff" * 6000))
    with tarfile.open(package / "usr/src/a.tar.xz", "w:xz") as archive:
        for number in range(40):
            data = f"int f{number};".encode()
            member = tarfile.TarInfo(f"src/{number}.c")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    run_command("dpkg-deb", "--build", package, tmp_path / "a.deb")
    output = tmp_path / "text.jsonl"
    benchmark("debian_text", str(tmp_path / "a.deb"), "--output", str(output))
    texts = [json.loads(line)["text"] for line in output.read_text("utf-8").splitlines()]
    assert texts.count("prose é\n") == 1
    assert sorted(len(text) for text in texts if "x" in text) == [4000, 8000]
    code = [text for text in texts if text.startswith("int")]
    assert 0 < len(code) < 40
    assert len(texts) == 3 + len(code)
    found = benchmark("debian_text", str(output), "--output", str(tmp_path / "no.jsonl"), code=2)
    refused_by(found, "text.jsonl: not a package")
