# SPDX-License-Identifier: Apache-2.0
"""--shard cuts every kind of input without loss, and merging gives the bytes of one run."""

import gzip
import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from e2_common.disk.indexed_dataset import read_index
from e2_common.errors import UserError
from e2_tools.commands import merge_datasets, preprocess_data
from e2_tools.corpus import inputs, merge, reader, writer
from tests.helpers import ROOT
from tests.helpers.commands import refused, run_command
from tests.helpers.tiny_corpus import TEXTS, arguments, output_bytes, write_jsonl

SCRIPT = ROOT / "tools" / "merge_datasets.py"


def texts_read(pieces: list[inputs.Piece]) -> list[str]:
    found = []
    for batch in (batch.load() for batch in reader.read_batches(pieces, ["text"])):
        for _, content in batch.records:
            if batch.kind == inputs.JSON_LINES:
                content = json.loads(content)
            found.append(content.decode() if batch.kind == inputs.TEXT else content["text"])
    return found


def write_every_kind(folder: Path) -> list[str]:
    """Files of every kind that together hold TEXTS several times; return their paths in order."""
    lines = Path(write_jsonl(folder / "a.jsonl", TEXTS)).read_bytes()
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines.rstrip()))
    (folder / "c.jsonl").write_bytes(b"\n" + lines.replace(b"\n", b"\n\n"))
    (folder / "d.txt").write_text("a text")
    (folder / "e.txt").write_text("")
    (folder / "f.jsonl.xz").write_bytes(lzma.compress(lines))
    try:
        import pyarrow
        import zstandard
        from pyarrow import parquet

        (folder / "g.jsonl.zst").write_bytes(zstandard.compress(lines))
        table = pyarrow.table({"text": TEXTS})
        parquet.write_table(table, folder / "h.parquet", row_group_size=7)
    except ImportError:
        pass
    return [str(path) for path in sorted(folder.iterdir())]


def test_shards_hold_every_document_once_in_order(tmp_path):
    sources = inputs.find_sources(write_every_kind(tmp_path))
    everything = texts_read(inputs.whole(sources))
    assert everything[: len(TEXTS)] == TEXTS
    for shards in (1, 2, 3, 7, 100, 1000):
        counted = []

        def count(source, counted=counted):
            counted.append(source)
            return reader.count_records(source)

        found = [texts_read(inputs.cut(sources, shard, shards, count)) for shard in range(shards)]
        assert [text for part in found for text in part] == everything
        if shards == 1:
            assert counted == []
        if shards == 7:
            sizes = [len("".join(part)) for part in found]
            assert min(sizes) > 0


def test_shards_of_one_plain_file_are_even_and_need_no_count(tmp_path):
    texts = [f"document {i:05}" for i in range(1000)]
    sources = inputs.find_sources([write_jsonl(tmp_path / "in.jsonl", texts)])
    parts = [texts_read(inputs.cut(sources, i, 8, count=None)) for i in range(8)]
    assert [text for part in parts for text in part] == texts
    assert {len(part) for part in parts} == {125}


def test_shards_fall_on_any_byte(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"text": "a"}\r\n\n{"text": "b"}\n{"text": "cc"}')
    sources = inputs.find_sources([str(path)])
    size = path.stat().st_size
    for byte in range(1, size):
        first = inputs.Piece(sources[0], 0, byte, byte)
        second = inputs.Piece(sources[0], byte, None, size - byte)
        assert texts_read([first, second]) == ["a", "b", "cc"]


@pytest.mark.parametrize("text", ["8/8", "1", "a/b", "-1/2", "0/0", "1/2/3"])
def test_bad_shard(text):
    with pytest.raises(UserError, match="--shard.*0/8"):
        inputs.parse_shard(text)


def test_a_bad_line_of_a_shard_is_placed(tmp_path, tokenizers_by_name, capfd):
    good = b'{"text": "a"}\n'
    source = tmp_path / "in.jsonl"
    source.write_bytes(good * 10 + b"bad\n" + good)
    flags = ("--shard", "1/2", "--workers", "1")
    line = arguments(str(source), tmp_path / "out", tokenizers_by_name["hf"], *flags)
    begin = source.stat().st_size // 2
    number = 11 - begin // len(good) - 1
    culprits = [f"in.jsonl, line {number} counted from byte {begin}", "not JSON"]
    refused(capfd, culprits, preprocess_data.main, line, untouched=tmp_path)


def test_merged_shards_equal_one_run(tmp_path, tokenizers_by_name, capfd, monkeypatch):
    chosen = tokenizers_by_name["hf"]
    (tmp_path / "in").mkdir()
    files = write_every_kind(tmp_path / "in")
    out = tmp_path / "out"
    line = arguments(files, out, chosen, "--append-eod", "--workers", "1")
    preprocess_data.main(line)
    wanted = output_bytes(tmp_path / "out_text_document")
    for shard in range(30):
        preprocess_data.main([*line, "--shard", f"{shard}/30"])
    parts = sorted(map(str, tmp_path.glob("out_*-of-00030_text_document.*")))
    assert len(parts) == 60
    monkeypatch.setattr(merge, "_CHUNK", 5)
    capfd.readouterr()
    # Nothing before and after may matter: what stands at the output is replaced.
    merge_datasets.main([*parts, "--output-prefix", str(tmp_path / "merged.idx")])
    assert output_bytes(tmp_path / "merged") == wanted
    shown = capfd.readouterr()
    index = read_index(str(tmp_path / "merged"))
    assert shown.out == (
        f"Joined 30 datasets: {index.documents:,} documents, {index.tokens:,} tokens (uint16)\n"
    )
    assert shown.err == ""

    def refusal(given, *culprits):
        flags = [*given, "--output-prefix", str(tmp_path / "merged")]
        refused(capfd, culprits, merge_datasets.main, flags, untouched=tmp_path)

    refusal(parts[4:], "of its 30 shards these are not given: 0, 1")
    refusal(parts[::-1], "out of order")
    refusal([str(tmp_path / "merged"), *parts], "--output-prefix", "is one of the datasets")
    assert output_bytes(tmp_path / "merged") == wanted


def write_dataset(prefix: Path, documents: list[list[int]], dtype=np.uint16) -> str:
    ids = np.array([i for document in documents for i in document], dtype)
    lengths = [len(document) for document in documents if document]
    source = prefix.with_name("ids")
    source.write_bytes(ids.tobytes())
    with open(source, "rb") as stream, writer.open_writer(str(prefix), dtype) as output:
        output.add(
            stream.fileno(), 0, ids.nbytes, np.array(lengths, np.int32),
            np.array([int(bool(document)) for document in documents]),
        )  # fmt: skip
    source.unlink()
    return str(prefix)


def test_bad_merges(tmp_path, capfd):
    good = write_dataset(tmp_path / "good", [[1, 2], [], [3]])
    wide = write_dataset(tmp_path / "wide", [[1, 2]], np.int32)
    half = write_dataset(tmp_path / "half", [[1, 2]])
    Path(f"{half}.idx").unlink()
    cut = write_dataset(tmp_path / "cut", [[1, 2], [3, 4]])
    Path(f"{cut}.bin").write_bytes(b"123")
    real = write_dataset(tmp_path / "real", [[1, 2]], np.float32)
    output = ["--output-prefix", str(tmp_path / "out")]
    for given, culprits in (
        ([good, wide], [wide, "int32", "uint16", good]),
        ([good, half], [f"{half}.idx: no such file"]),
        ([good, cut], [f"{cut}.bin", "3 bytes, not the 8"]),
        ([good, str(tmp_path / "none")], ["none.idx and", "none.bin"]),
        ([good, real], [f"{real}.idx", "float32, and ids are integers"]),
    ):
        refused(capfd, culprits, merge_datasets.main, [*given, *output], untouched=tmp_path)
    merge_datasets.main([f"{good}.bin", good, *output])
    assert output_bytes(tmp_path / "out") == output_bytes(good)


def test_merging_needs_no_torch():
    code = f"import sys, runpy; runpy.run_path({str(SCRIPT)!r}); sys.exit('torch' in sys.modules)"
    run_command("-c", code)


def test_a_dataset_named_twice_is_there_twice(tmp_path, tokenizers_by_name, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = write_jsonl(tmp_path / "in.jsonl", ["one", "two words"])
    for name in ("a", "b"):
        preprocess_data.main(arguments(source, tmp_path / name, tokenizers_by_name["hf"]))
    a, b = "a_text_document", "b_text_document"
    for given, documents in {
        (a, b, a): 6,
        (f"{a}.bin", f"{a}.idx", f"{b}.bin", f"{b}.idx"): 4,
        (f"{a}.bin", f"{a}.idx", f"{a}.bin", f"{a}.idx"): 4,
        (f"{a}.idx", b, a): 4,
    }.items():
        merge_datasets.main([*given, "--output-prefix", "c"])
        assert read_index("c").documents == documents, given
    capfd.readouterr()
    for spelling in (a, f"./{a}", f"x/../{a}.idx", tmp_path / a, "linked"):
        (tmp_path / "x").mkdir(exist_ok=True)
        if spelling == "linked":
            for suffix in (".bin", ".idx"):
                (tmp_path / f"linked{suffix}").symlink_to(tmp_path / f"{a}{suffix}")
        flags = [a, b, "--output-prefix", str(spelling)]
        refused(capfd, ["one of the datasets"], merge_datasets.main, flags, untouched=tmp_path)
