# SPDX-License-Identifier: Apache-2.0
"""Which tokens are scored in which context."""

from hypothesis import given, settings
from hypothesis import strategies as st

from e2_tools.evaluation.perplexity.windows import (
    check_windows,
    full_context_from,
    sliding_windows,
    step_between,
)


@settings(deadline=None)  # the machine may be busy
@given(st.data())
def test_every_token_but_the_first_is_scored_once_in_the_right_context(data):
    window = data.draw(st.integers(2, 40))
    stride = data.draw(st.integers(1, window))
    length = data.draw(st.integers(0, 200))
    step = min(stride, window - 1)
    contexts = {}
    for job in sliding_windows(length, window, stride):
        assert job.begin % step == 0
        assert job.end == min(job.begin + window, length)
        for index in range(job.first_scored, job.end):
            assert index not in contexts
            contexts[index] = index - job.begin
    # By definition a token belongs to the first of the windows at 0, S, 2S, ... that reaches it.
    expected = {
        i: i - next(b for b in range(0, length, step) if i < b + window) for i in range(1, length)
    }
    assert contexts == expected
    assert all(context >= min(i, window - step) for i, context in contexts.items())


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.integers(2, 40), min_size=1, max_size=4), st.data())
def test_full_context_is_full_at_every_window_and_no_later_than_needed(windows, data):
    stride = data.draw(st.integers(1, min(windows)))
    start = full_context_from(windows, stride)
    for window in windows:
        bound = window - step_between(window, stride)
        for job in sliding_windows(100, window, stride):
            for index in range(max(start, job.first_scored), job.end):
                assert index - job.begin >= bound
    assert start == max(w - step_between(w, stride) for w in windows)


def test_duplicate_windows_count_once_and_the_stride_is_256():
    assert check_windows([512, 256, 512], None) == ([512, 256], 256)
