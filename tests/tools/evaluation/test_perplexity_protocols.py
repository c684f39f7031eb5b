# SPDX-License-Identifier: Apache-2.0
"""The published protocols, each against its own loop written anew; windows against lm-eval's."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from e2_tools.evaluation.perplexity import scoring as perplexity
from e2_tools.evaluation.perplexity.windows import (
    overlapping_windows,
    sliding_windows,
    strided_windows,
)
from tests.helpers.word_model import (
    BOS,
    at_scale,
    by_window,
    evaluate,
    ids_of,
    make_documents,
    write_data,
)

LENGTHS = (150, 70, 9, 1)
WINDOW, STRIDE = 48, 7


@pytest.fixture(scope="module")
def model(model_dir):
    return at_scale(model_dir, 2.0, WINDOW)  # ceil(48 / 32)


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data.jsonl", make_documents(*LENGTHS))


def window_losses(model, ids, new):
    """nll of the last ``new`` tokens of one window, from the logits of all its positions."""
    inputs = torch.tensor([ids])
    with torch.no_grad():
        logits = model(inputs).logits[0]
    nll = -logits[:-1].log_softmax(-1).gather(1, inputs[0, 1:, None])[:, 0]
    return nll[len(nll) - new :].tolist()


def press(model, documents):
    nll = []
    for ids in ([BOS, *document] for document in documents):
        done = 1
        for begin in range(0, len(ids), STRIDE):
            end = min(begin + WINDOW, len(ids))
            nll += window_losses(model, ids[begin:end], end - done)
            done = end
            if end == len(ids):
                break
    return math.exp(sum(nll) / len(nll)), len(nll)


def yarn(model, documents, truncate=False, bos=True, stride=STRIDE):
    """eval/perplexity.py of jquesnelle/yarn, in outline; the mean is transformers' own loss."""
    room, means, tokens = WINDOW - bos, [], 0
    if truncate:
        documents, stride = [document[:room] for document in documents], room
    for ids in documents:
        done = 0
        for begin in range(0, len(ids), stride):
            end = min(begin + room, len(ids))
            window = torch.tensor([[BOS] * bos + ids[begin:end]])
            labels = window.clone()
            labels[:, : -(end - done)] = -100
            with torch.no_grad():
                means.append(model(window, labels=labels).loss.item())
            tokens += int((labels[:, 1:] != -100).sum())
            done = end
            if end == len(ids):
                break
    return math.exp(sum(means) / len(means)), tokens


def longlora(model, documents):
    """eval.py of dvlab-research/LongLoRA, in outline."""
    stream = [token for document in documents for token in document]
    begins = list(range(0, len(stream) - WINDOW, STRIDE))
    begins.pop()
    means = []
    for begin in begins:
        losses = window_losses(model, stream[begin : begin + WINDOW], WINDOW - 1)
        means.append(sum(losses) / len(losses))
    return 2.71828 ** (sum(means) / len(means)), len(begins) * (WINDOW - 1)


NAIVE = {
    "press": press,
    "yarn": yarn,
    "yarn-truncate": lambda model, documents: yarn(model, documents, truncate=True),
    "longlora": longlora,
}


def run(model_dir, data, tmp_path, protocol, *flags):
    stride = [] if protocol == "yarn-truncate" else ["--stride", STRIDE]
    flags = ["--windows", WINDOW, "--protocol", protocol, *stride, *flags]
    return evaluate(model_dir, data, tmp_path / f"{protocol}.json", *flags)


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("protocol", NAIVE)
def test_each_protocol_equals_its_own_naive_loop(
    model_dir, model, data, tmp_path, monkeypatch, protocol, batch_size
):
    monkeypatch.setattr(perplexity, "LOGITS_AT_ONCE", 64 * 5)  # five positions at a time
    results = run(model_dir, data, tmp_path, protocol, "--batch-size", batch_size)
    row = by_window(results)[WINDOW]
    documents = [ids_of(words) for words in make_documents(*LENGTHS)]
    expected, tokens = NAIVE[protocol](model, documents)
    assert row["perplexity"] == pytest.approx(expected, rel=1e-6)
    assert row["tokens"] == tokens
    assert (row["perplexity_full_context"] is not None) == (protocol == "press")
    assert results["bos"] == (protocol != "longlora")


def test_the_protocols_are_different_numbers_and_say_of_what(model_dir, data, tmp_path):
    files = [run(model_dir, data, tmp_path, protocol) for protocol in NAIVE]
    values = sorted(by_window(results)[WINDOW]["perplexity"] for results in files)
    assert all(b > 1.01 * a for a, b in zip(values, values[1:], strict=False)), values
    assert len({results["average_over"] for results in files}) == len(files)
    assert [results["stride"] for results in files] == [STRIDE, STRIDE, None, STRIDE]


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("stride", [19, 47, 48])
def test_yarn_at_strides_up_to_the_window(model_dir, model, tmp_path, stride, bos):
    """At 48 its windows leave tokens out, and where documents end so do their last windows."""
    lengths = (150, 70, 96, 95, 143)
    data = write_data(tmp_path / "long.jsonl", make_documents(*lengths))
    flags = ["--windows", WINDOW, "--protocol", "yarn", "--stride", stride]
    results = evaluate(
        model_dir, data, tmp_path / "yarn.json", *flags, *[] if bos else ["--no-bos"]
    )
    documents = [ids_of(words) for words in make_documents(*lengths)]
    expected, tokens = yarn(model, documents, bos=bos, stride=stride)
    row = by_window(results)[WINDOW]
    assert (results["bos"], row["tokens"]) == (bos, tokens)
    assert row["perplexity"] == pytest.approx(expected, rel=1e-6)
    assert (row["tokens"] < sum(lengths) - (not bos) * len(lengths)) == (stride == 48)


def test_a_window_with_nothing_to_score_is_left_out():
    """YaRN's code would give NaN there: the last token alone, without a BOS."""
    assert strided_windows(49, 48, 48) == [(0, 1, 48)]
    assert strided_windows(49, 47, 48, first=0) == [(0, 0, 47), (48, 48, 49)]
    assert strided_windows(48, 47, 48, first=0) == [(0, 0, 47)]


@pytest.mark.parametrize("protocol", NAIVE)
def test_the_mean_is_that_of_the_documents_kept(model_dir, data, tmp_path, protocol):
    results = run(model_dir, data, tmp_path, protocol)
    row = by_window(results)[WINDOW]
    kept = row["documents"]
    assert len(kept["nll_sum"]) == len(kept["count"]) == len(LENGTHS)
    assert row["nll"] == pytest.approx(sum(kept["nll_sum"]) / sum(kept["count"]), rel=1e-12)
    over = row["windows"] if protocol.startswith("yarn") else row["tokens"]
    assert sum(kept["count"]) == over
    low, high = row["perplexity_interval"]
    assert low < row["perplexity"] < high


def test_a_token_of_the_joined_stream_belongs_to_its_document(model_dir, data, tmp_path):
    row = by_window(run(model_dir, data, tmp_path, "longlora"))[WINDOW]
    owner = [number for number, length in enumerate(LENGTHS) for _ in range(length)]
    begins = range(0, sum(LENGTHS) - WINDOW, STRIDE)[:-1]
    scored = [owner[i] for begin in begins for i in range(begin + 1, begin + WINDOW)]
    assert row["documents"]["count"] == [scored.count(number) for number in range(len(LENGTHS))]


def test_the_first_document_alone_is_its_entry_in_the_list(model_dir, data, tmp_path):
    both = by_window(run(model_dir, data, tmp_path, "press"))[WINDOW]
    alone = by_window(run(model_dir, data, tmp_path, "press", "--max-documents", 1))[WINDOW]
    kept = both["documents"]
    assert kept["nll_sum"][0] / kept["count"][0] == pytest.approx(alone["nll"], rel=1e-6)
    assert kept["nll_sum_full_context"][0] == pytest.approx(
        alone["documents"]["nll_sum_full_context"][0], rel=1e-6
    )
    assert kept["count_full_context"] == [151 - 41, 71 - 41, 0, 0]
    assert alone["perplexity_interval"] is None  # of one document


def test_no_logits_of_a_whole_window(model_dir, tmp_path, monkeypatch):
    """The largest tensor with a row of logits anywhere in the pass is one chunk."""
    at_once, vocabulary, largest = 64 * 16, 64, []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.shape[-1:] == (vocabulary,):
                largest.append(result.numel())
            return result

    monkeypatch.setattr(perplexity, "LOGITS_AT_ONCE", at_once)
    data = write_data(tmp_path / "long.jsonl", make_documents(1000))
    score = perplexity._score

    def watched(*args):
        with Watch():
            return score(*args)

    monkeypatch.setattr(perplexity, "_score", watched)
    evaluate(model_dir, data, tmp_path / "r.json", "--windows", 1000, "--stride", 1000)
    assert max(largest) == at_once


# --- windows, against somebody else's ---


@pytest.mark.parametrize("length", [30, 48, 49, 100, 151, 300])
def test_windows_are_those_of_lm_eval(length, monkeypatch):
    """lm-eval counts inputs, we count tokens; it moves the last window left to fill it."""
    monkeypatch.setenv("HF_XET_HIGH_PERFORMANCE", "1")  # importing it sets this
    how = "lm-eval: pip install --no-deps -r constraints-lm-eval.txt"
    utils = pytest.importorskip("lm_eval.utils", reason=how)
    inputs = WINDOW - 1
    theirs = utils.get_rolling_token_windows(
        list(range(1, length)), 0, inputs, context_len=inputs - STRIDE + 1
    )
    theirs = [([*given, scored[-1]], scored) for given, scored in theirs]
    ours = [
        (list(range(begin, end)), list(range(first, end)))
        for begin, first, end in sliding_windows(length, WINDOW, STRIDE)
    ]
    assert [scored for _, scored in ours] == [scored for _, scored in theirs]
    assert [read for read, _ in ours[:-1]] == [read for read, _ in theirs[:-1]]
    moved = -(length - WINDOW) % STRIDE if length > WINDOW else 0
    assert ours[-1][0] == theirs[-1][0][moved:]


def test_longlora_leaves_out_the_last_windows_as_its_code_does():
    begins = [window.begin for window in overlapping_windows(100, 40, 10)]
    assert begins == [0, 10, 20, 30, 40]  # of 0 .. 50; the whole window at 60 too is left out
