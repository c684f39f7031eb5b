# SPDX-License-Identifier: Apache-2.0
"""Items made one ahead: in order, no more than one, errors in their turn."""

import threading
from functools import partial

import pytest

from e2_common.ahead import one_ahead


def test_items_come_in_order_and_only_one_is_made_ahead():
    called = []
    given = one_ahead(partial(called.append, number) for number in range(5))
    assert next(given) is None
    for last in range(1, 5):
        next(given)
        assert len(called) <= last + 2  # given out, and at most one after it
    assert called == list(range(5))
    assert next(given, "end") == "end"
    assert list(one_ahead([])) == []


def test_the_next_one_is_made_while_the_last_one_is_in_use():
    made = threading.Event()
    given = one_ahead([lambda: "first", made.set])
    assert next(given) == "first"
    assert made.wait(10)


def test_an_error_comes_in_its_turn_and_ends_it():
    def fail():
        raise ValueError("broken")

    called = []
    given = one_ahead([lambda: 1, fail, partial(called.append, 3)])
    assert next(given) == 1
    with pytest.raises(ValueError, match="broken"):
        next(given)
    assert next(given, "end") == "end"
    assert not called
    assert not [thread for thread in threading.enumerate() if "one-ahead" in thread.name]
