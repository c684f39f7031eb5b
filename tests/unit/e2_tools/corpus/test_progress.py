# SPDX-License-Identifier: Apache-2.0
"""What is shown while text is tokenised: a bar on a terminal, lines in a log."""

import io

import pytest

from e2_common.progress import Bar, progress_bar
from e2_tools.corpus import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_now_and_then(capsys, clock):
    shown = progress.Progress(4_000_000)
    clock[0] += progress.LOG_SECONDS - 1
    shown.update(500_000, 10, 2_000_000, 400_000)
    assert capsys.readouterr().err == ""
    clock[0] += 11
    shown.update(500_000, 1234, 20_000_000, 8_000_000)
    assert capsys.readouterr().err == (
        "1,234 documents, 0.5 MB/s, 0.20 M tokens/s, 25%, 0:02:00 left\n"
    )
    clock[0] += 1
    shown.update(500_000, 1234, 20_000_000, 8_000_000)
    shown.close()
    assert capsys.readouterr().err == ""


def test_no_time_left_of_an_unknown_size(capsys, clock):
    shown = progress.Progress(None)
    clock[0] += 40
    shown.update(500_000, 10, 2_000_000, 400_000)
    assert capsys.readouterr().err == "10 documents, 0.1 MB/s, 0.01 M tokens/s\n"


@pytest.mark.parametrize("total", [1_000_000, None])
def test_a_terminal_gets_a_bar(monkeypatch, total):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    shown = progress.Progress(total)
    shown._bar.mininterval = 0
    shown.update(500_000, 12, 2_000_000, 400_000)
    shown.close()
    assert "12 documents, " in terminal.getvalue()
    assert ("50%|" in terminal.getvalue()) == (total is not None)


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_every_bar_is_lively_on_a_terminal_and_seldom_in_a_log(stream, monkeypatch):
    monkeypatch.setattr(Bar, "monitor", None)  # another library's bars may have started one
    shown = stream()
    with progress_bar(4000, "B", "weights", done=1000, file=shown) as bar:
        assert bar.mininterval == (0.5 if stream is Terminal else 30)
        before = shown.getvalue()
        bar.update(1000)
        assert shown.getvalue() == before  # too early for a second look
        bar.start_t -= 60
        bar.last_print_t -= 60
        bar.update(1000)
        assert "weights:  75%" in shown.getvalue()
        assert "3.00k/4.00k [01:00<00:30" in shown.getvalue()
    assert Bar.monitor is None  # no thread: processes may be forked
