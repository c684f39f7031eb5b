# SPDX-License-Identifier: Apache-2.0
"""Loss masks beside a dataset: which positions of its windows count."""

import numpy as np
import pytest
import torch

from e2_common.errors import UserError
from megatron_patches.training.step import loss_function
from tests.distributed.corpus import write_dataset
from tests.distributed.windows import build

WINDOW = 32
# Ids from here on are what the mask lets count, so that a window's own tokens tell its mask.
FIRST_COUNTED = 600


@pytest.fixture
def corpus(tmp_path):
    """A dataset of documents of many lengths; the prefix and the documents."""
    random = np.random.RandomState(0)
    documents = [random.randint(1, 1000, length) for length in (5, 70, 1, 33, 200, 64, 12, 90)]
    write_dataset(tmp_path / "text", documents)
    return tmp_path / "text", documents


def write_mask(prefix, documents):
    masks = [(document >= FIRST_COUNTED).astype(np.uint8) for document in documents]
    write_dataset(f"{prefix}_loss_mask", masks, np.uint8)


def train_split(*prefixes, **options):
    """Two passes over the text, so that windows are of two shuffles."""
    return build(*prefixes, window=WINDOW, **options)[0]


def test_a_position_counts_if_the_token_it_predicts_does(corpus):
    prefix, documents = corpus
    write_mask(prefix, documents)
    dataset = train_split(prefix)
    assert len(dataset) >= 20
    counted = 0
    for index in range(len(dataset)):
        window = dataset[index]
        expected = (window["labels"] >= FIRST_COUNTED).float()
        assert torch.equal(window["loss_mask"], expected)
        counted += int(expected.sum())
    assert 0 < counted < len(dataset) * WINDOW


def test_without_a_mask_or_on_demand_everything_counts(corpus):
    prefix, documents = corpus
    assert all(train_split(prefix)[index]["loss_mask"].all() for index in range(20))
    write_mask(prefix, documents)
    ignored = train_split(prefix, use_loss_masks=False)
    assert all(ignored[index]["loss_mask"].all() for index in range(20))


def test_a_blend_masks_only_the_dataset_that_has_a_mask(corpus, tmp_path):
    prefix, documents = corpus
    write_mask(prefix, documents)
    # The other dataset's ids are beyond those of the first: they tell where a window is from.
    write_dataset(tmp_path / "plain", [document + 1000 for document in documents])
    blend = train_split(prefix, tmp_path / "plain")
    seen = set()
    for window in map(blend.__getitem__, range(20)):
        masked = bool((window["tokens"] < 1000).all())
        seen.add(masked)
        expected = window["labels"] >= FIRST_COUNTED if masked else torch.ones(WINDOW)
        assert torch.equal(window["loss_mask"], expected.float())
    assert seen == {True, False}


def test_the_loss_and_its_gradient_ignore_what_is_masked(corpus, monkeypatch):
    from argparse import Namespace

    args = Namespace(check_for_nan_in_loss_and_grad=False, check_for_spiky_loss=False)
    monkeypatch.setattr("megatron_patches.training.step.get_args", lambda: args)
    machine = Namespace(validate_result=lambda **_: None)
    monkeypatch.setattr("megatron_patches.training.step.get_rerun_state_machine", lambda: machine)
    prefix, documents = corpus
    write_mask(prefix, documents)
    window = train_split(prefix)[0]
    losses = torch.rand(1, WINDOW, requires_grad=True)
    loss, tokens, _ = loss_function(window["loss_mask"][None], {}, losses)
    loss.backward()
    counts = window["labels"][None] >= FIRST_COUNTED
    assert int(tokens) == int(counts.sum())
    torch.testing.assert_close(loss.detach(), losses.detach()[counts].sum())
    assert torch.equal(losses.grad, counts.float())


def test_half_a_mask_and_the_mask_of_another_dataset_are_refused(corpus):
    prefix, documents = corpus
    write_mask(prefix, documents[::-1])
    with pytest.raises(UserError, match="other sequences"):
        train_split(prefix)
    (prefix.parent / "text_loss_mask.bin").unlink()
    with pytest.raises(UserError, match=r"text_loss_mask\.bin is missing"):
        train_split(prefix)
