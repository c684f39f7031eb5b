# SPDX-License-Identifier: Apache-2.0
"""Changes of perplexity against a reference: numpy's own resamples, the table, the refusals."""

import json
import math

import numpy as np
import pytest

from e2_tools.commands.compare_perplexities import main
from e2_tools.evaluation.collection import write_collection
from e2_tools.evaluation.perplexity.results import METRICS
from e2_tools.reporting.collect import collect
from tests.helpers.commands import refused
from tests.helpers.word_model import by_window, evaluate, make_documents, write_data

BASES = {"press": math.e, "yarn": math.e, "longlora": 2.71828}
COUNTS = [900, 1000, 150, 800, 1200, 1000, 700, 400]
RANDOM = np.random.default_rng(5)
HARD = RANDOM.uniform(1.5, 4.5, len(COUNTS))  # of each document, for every model
GAIN = RANDOM.normal(0.05, 0.02, len(COUNTS))


def row(window, losses, counts, base=math.e):
    """A window, from the mean loss of each document; the last quarter of it is half as hard."""
    quarter = [count // 4 for count in counts]
    made = {"window": window, "scale": 1.0, "documents": {}}
    for suffix, own, weights in (("", losses, counts), ("_full_context", losses / 2, quarter)):
        sums = [float(loss * n) for loss, n in zip(own, weights, strict=True)]
        total = sum(weights)
        made[f"perplexity{suffix}"] = base ** (sum(sums) / total) if total else None
        made["documents"] |= {f"nll_sum{suffix}": sums, f"count{suffix}": list(weights)}
    return made


def results(label, losses, counts=COUNTS, protocol="press", **changes):
    """A file; ``losses`` by window."""
    lines = [2 * number + 1 for number in range(len(counts))]
    documents = {"line": lines, "tokens": [n + 1 for n in counts], "sha256": ["0"] * len(lines)}
    rows = [row(w, np.array(own), counts, BASES[protocol]) for w, own in losses.items()]
    settings = {"data": {"path": f"{label}.jsonl", "sha256": "00", "documents": len(lines)}}
    settings |= {"protocol": protocol, "stride": 64, "bos": False, "full_context_from": 192}
    made = {"schema": "e2-llm/perplexity/1", "label": label, "dtype": "fp32", "results": rows}
    return made | settings | {"documents": documents} | changes


def of_pair(protocol="press"):
    """A reference and what is a little better, by a gain that grows with the window."""
    windows = {256: 1.0, 512: 4.0}
    reference = dict.fromkeys(windows, HARD)
    other = {window: HARD - times * GAIN for window, times in windows.items()}
    made = ("reference", reference), ("other", other)
    return [results(label, losses, protocol=protocol) for label, losses in made]


def written(folder, *contents):
    paths = [folder / f"{number}.json" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(json.dumps(content))
    return paths


def run(*words):
    main([str(word) for word in words])


def table_of(capsys, *words):
    run(*words)
    return capsys.readouterr().out.splitlines()


def resampled(reference, other, suffix, base, paired=True):
    """Percent changes of naive resamples: both perplexities anew for every draw."""
    (a, n), (b, m) = (
        [np.array(each["documents"][f"{name}{suffix}"]) for name in ("nll_sum", "count")]
        for each in (reference, other)
    )
    random, changes = np.random.default_rng(1), []
    for _ in range(10_000):
        drawn = random.choice(len(n), len(n))
        again = drawn if paired else random.choice(len(n), len(n))
        before = base ** (a[drawn].sum() / n[drawn].sum())
        changes.append(100 * (base ** (b[again].sum() / m[again].sum()) / before - 1))
    return np.percentile(changes, [2.5, 97.5])


@pytest.mark.parametrize("metric", METRICS[:2])
@pytest.mark.parametrize("protocol", BASES)
def test_the_numbers_are_those_of_a_naive_loop(tmp_path, protocol, metric):
    reference, other = of_pair(protocol)
    output = tmp_path / "new" / "differences.json"
    run(*written(tmp_path, reference, other), "--metric", metric, "--output", output)
    found = by_window(json.loads(output.read_text()))
    for window, before in by_window(reference).items():
        own, after = found[window], by_window(other)[window]
        assert own["reference_perplexity"] == pytest.approx(before[metric])
        assert own["perplexity"] == pytest.approx(after[metric])
        expected = 100 * (after[metric] / before[metric] - 1)
        assert own["percent"] == pytest.approx(expected, rel=1e-9)
        suffix = metric.removeprefix("perplexity")
        ends = resampled(before, after, suffix, BASES[protocol])
        assert own["percent_interval"] == pytest.approx(ends, abs=0.03 * (ends[1] - ends[0]))
        times = (4.0 if window == 512 else 1.0) / (2 if suffix else 1)
        each = (100 * (BASES[protocol] ** (-times * GAIN) - 1)).tolist()
        # Near enough to tell e from 2.71828.
        assert own["documents"]["percent"] == pytest.approx(each, rel=1e-9)


def test_a_paired_interval_is_narrower(tmp_path):
    """Documents differ far more than the models do on each of them."""
    reference, other = of_pair()
    run(*written(tmp_path, reference, other), "--output", tmp_path / "d.json")
    low, high = by_window(json.loads((tmp_path / "d.json").read_text()))[256]["percent_interval"]
    pair = by_window(reference)[256], by_window(other)[256]
    unpaired = resampled(*pair, "", math.e, paired=False)
    assert low < high < 0
    assert high - low < (unpaired[1] - unpaired[0]) / 20
    assert unpaired[0] < 0 < unpaired[1]


def test_a_file_does_not_differ_from_itself(tmp_path, capsys):
    reference, _ = of_pair()
    paths = written(tmp_path, reference, reference | {"label": "same"})
    assert table_of(capsys, *paths)[2] == "| same | 0.0 (0.0 … 0.0) | 0.0 (0.0 … 0.0) |"
    assert "| b | 0.0" in table_of(capsys, paths[0], paths[0], "--labels", "a", "b")[2]


def test_the_table(tmp_path, capsys):
    """One document: no interval; windows that one lacks; a document without tokens."""
    step = math.log(1.1)
    alone = {"counts": [50, 0]}
    paths = written(
        tmp_path,
        results("a|b", {128: [2.0, 0.0], 256: [2.0, 0.0], 999: [2.0, 0.0]}, **alone),
        results("up", {128: [2 + step, 0.0], 64: [2.0, 0.0]}, **alone),
        results("down", {256: [2 - step, 0.0], 128: [2 - 1e-4, 0.0]}, **alone),
    )
    head = ["| perplexity, % from a\\|b | 128 | 256 |", "| --- | ---: | ---: |"]
    up, down = "| up | +10.0 | - |", "| down | -0.01 | -9.1 |"
    assert table_of(capsys, *paths) == [*head, up, down]
    lines = ["| up | +10.0 |", "| up, line 1 | +10.0 |", "| up, line 3 | - |"]
    assert table_of(capsys, *paths[:2], "--each")[2:] == lines


def test_documents_without_lines_have_numbers(tmp_path, capsys):
    pair = of_pair()
    for content in pair:
        del content["documents"]
    rows = table_of(capsys, *written(tmp_path, *pair), "--each")[2:]
    names = [f"other, document {number}" for number in range(1, len(COUNTS) + 1)]
    assert [line.split(" | ")[0].strip("| ") for line in rows] == ["other", *names]


def test_the_output_says_where_it_comes_from(tmp_path, capsys):
    pair = of_pair()
    paths = written(tmp_path, *pair)
    table = table_of(capsys, *paths)
    output = tmp_path / "d.json"
    assert table_of(capsys, *paths, "--output", output) == table
    content = json.loads(output.read_text())
    assert content["schema"] == "e2-llm/perplexity-differences/1"
    assert content["bootstrap"] == {"resamples": 10_000, "seed": 0, "level": 0.95}
    assert content["provenance"].keys() >= {"command", "commit", "versions", "hardware"}
    assert [file["path"] for file in content["files"]] == [*map(str, paths)]
    for name in ("data", "protocol", "stride", "bos", "dtype", "documents"):
        assert content[name] == pair[0][name]
    assert [row["window"] for row in content["results"]] == [256, 512]
    # A report of the folder is of the results alone.
    assert {kind: len(found) for kind, found in collect(tmp_path).results.items()} == {
        "e2-llm/perplexity": 2
    }


def test_what_the_evaluation_writes_can_be_compared(model_dir, tmp_path, capsys):
    data = write_data(tmp_path / "data.jsonl", make_documents(50, 9, 40))
    flags = ["--windows", 16, 32, "--stride", 8]
    paths = [tmp_path / "1.json", tmp_path / "4.json"]
    files = [
        evaluate(model_dir, data, path, *flags, "--scale", path.stem, "--label", path.stem)
        for path in paths
    ]
    capsys.readouterr()
    head, _, cells, *each = table_of(capsys, *paths, "--each")
    assert head == "| perplexity, % from 1 | 16 | 32 |"
    assert [line.split(" | ")[0] for line in each] == [f"| 4, line {n}" for n in (1, 2, 3)]
    told = [cell.split()[0] for cell in cells.split(" | ")[1:]]
    before, after = ([row["perplexity"] for row in file["results"]] for file in files)
    expected = [100 * (b / a - 1) for a, b in zip(before, after, strict=True)]
    assert [*map(float, told)] == pytest.approx(expected, abs=0.051)


def without_losses(content):
    for each in content["results"]:
        del each["documents"]


def without_full_context(content):
    for each in content["results"]:
        for name in ("nll_sum", "count"):
            del each["documents"][f"{name}_full_context"]


def other_tokens(content):
    content["results"][1]["documents"]["count"][2] += 1


def other_documents(content):
    content["documents"]["sha256"][2] = "1"


def other_windows(content):
    for each in content["results"]:
        each["window"] += 1


def broken(name, value):
    def change(content):
        content["results"][0]["documents"][name] = value

    return change


REFUSALS = {
    "stride and type": (lambda c: c.update(stride=7, dtype="bf16"), [], ["stride, dtype"]),
    "protocol": (lambda c: c.update(protocol="yarn"), [], ["protocol"]),
    "data": (lambda c: c["data"].update(sha256="1"), [], ["differs", "data"]),
    "documents": (other_documents, [], ["differs", "in documents"]),
    "older": (without_losses, [], ["window 256", "older version", "evaluate again"]),
    "tokens": (other_tokens, [], ["window 512", "other tokens", "tokenizer"]),
    "windows": (other_windows, [], ["in common", "--windows"]),
    "label": (lambda c: c.update(label="reference"), [], ["'reference'", "0.json", "--labels"]),
    "full context": (
        without_full_context,
        ["--metric", "perplexity_full_context"],
        ["no window with a perplexity_full_context"],
    ),
    "full context from": (
        lambda c: c.update(full_context_from=64),
        ["--metric", "perplexity_full_context"],
        ["full_context_from"],
    ),
    "no list": (broken("nll_sum", 7), [], ["window 256", "no usable losses"]),
    "short": (broken("nll_sum", [1.0]), [], ["window 256", "no usable losses"]),
    "no numbers": (broken("count", ["a"] * len(COUNTS)), [], ["no usable losses"]),
    "infinite": (broken("nll_sum", [1e300] * len(COUNTS)), [], ["no usable losses"]),
    "not a number": (broken("nll_sum", [math.nan] * len(COUNTS)), [], ["no usable losses"]),
    "another schema": (lambda c: c.update(schema="e2-llm/needle/1"), [], ["e2-llm/needle/1"]),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_files_that_do_not_compare_are_refused(tmp_path, capsys, name):
    change, flags, words = REFUSALS[name]
    reference, other = of_pair()
    change(other)
    paths = written(tmp_path, reference, other)
    flags = [*flags, "--output", tmp_path / "new" / "d.json"]
    refused(capsys, ["1.json", *words], run, *paths, *flags, untouched=tmp_path)


def test_what_both_files_lack_is_refused(tmp_path, capsys):
    """Settings that files share may be of no use all the same."""
    for change, word in (
        (lambda content: content.update(protocol="mine"), "'mine'"),
        (lambda content: content.update(protocol=["press"]), "['press']"),
        (lambda content: content["documents"].update(line=[1]), "documents"),
        (lambda content: content.update(documents=[1]), "documents"),
    ):
        pair = of_pair()
        for content in pair:
            change(content)
        refused(capsys, ["0.json", word], run, *written(tmp_path, *pair), untouched=tmp_path)


def test_collections_and_labels_are_refused(tmp_path, capsys):
    pair = of_pair()
    paths = written(tmp_path, *pair)
    collected = tmp_path / "all.json"
    write_collection(collected, [*zip(paths, pair, strict=True)], METRICS)
    refused(capsys, ["all.json", "is a collection"], run, paths[0], collected)
    refused(capsys, ["--labels", "1 of 2"], run, *paths, "--labels", "one")
    refused(capsys, "nothing.json", run, paths[0], tmp_path / "nothing.json")
    refused(capsys, "--output", run, *paths, "--output", paths[1], untouched=tmp_path)
