# SPDX-License-Identifier: Apache-2.0
"""Windows of a dataset: of what lies on disk now, and of a split that holds something."""

import functools

import numpy as np
import pytest

from e2_common.errors import UserError
from tests.distributed import windows
from tests.distributed.corpus import write_dataset

WINDOW = 16


build = functools.partial(windows.build, window=WINDOW)


def documents(first, count, length=40):
    """Documents of ids of their own, by which their windows are known."""
    return [np.full(length, first + number) for number in range(count)]


def ids_of(dataset):
    return {int(token) for index in range(len(dataset)) for token in dataset[index]["tokens"]}


@pytest.mark.parametrize("blend", [False, True])
def test_a_dataset_written_anew_is_read_anew(tmp_path, blend):
    """Under the same prefix and beside the cache of the old one, whatever its documents are."""
    prefix, other = tmp_path / "text", tmp_path / "other"
    write_dataset(other, documents(9000, 2))
    prefixes = [prefix, other] if blend else [prefix]
    for written in (
        documents(100, 6),
        documents(100, 60),  # more of them
        documents(200, 60, length=8),  # shorter ones: the old indices would point behind them
        documents(300, 6),
        [*documents(400, 3, length=70), *documents(500, 3, length=10)],  # as many, as long in all
    ):
        write_dataset(prefix, written)
        wanted = sum(map(len, written)) // WINDOW * 2 * len(prefixes)
        train = build(*prefixes, sizes=(wanted, 0, 0))[0]
        expected = {int(document[0]) for document in written}
        assert ids_of(train) - {9000, 9001} == expected
        again = build(*prefixes, sizes=(wanted, 0, 0))[0]  # now from the cache
        assert all((train[i]["tokens"] == again[i]["tokens"]).all() for i in range(len(train)))


def test_a_split_of_which_nothing_is_wanted_may_be_empty(tmp_path):
    """Megatron would look for its epochs for ever: 88 documents leave none for 0.1 %."""
    write_dataset(tmp_path / "text", documents(100, 88))
    train, valid, test = build(tmp_path / "text", split="969,30,1", sizes=(20, 5, 0))
    assert len(train) >= 20
    assert len(valid) >= 5
    assert test is None or len(test) == 0
    with pytest.raises(UserError, match="is left for the test split"):
        build(tmp_path / "text", split="969,30,1", sizes=(20, 5, 1))


def test_documents_without_tokens(tmp_path):
    write_dataset(tmp_path / "text", [*documents(100, 4), [], [], []])
    assert len(build(tmp_path / "text", split="50,50,0", sizes=(10, 0, 0))[0]) >= 10
    with pytest.raises(UserError, match="no text of"):
        build(tmp_path / "text", split="57,43,0", sizes=(10, 1, 0))


def test_a_tiny_member_of_a_blend(tmp_path):
    write_dataset(tmp_path / "text", documents(100, 88))
    write_dataset(tmp_path / "tiny", documents(9000, 1))
    train = build(tmp_path / "text", tmp_path / "tiny", split="969,30,1", sizes=(20, 0, 0))[0]
    assert 9000 in ids_of(train)
    with pytest.raises(UserError, match=r"tiny is left for the valid split"):
        build(tmp_path / "text", tmp_path / "tiny", split="969,30,1", sizes=(20, 5, 0))
