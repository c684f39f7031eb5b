# SPDX-License-Identifier: Apache-2.0
"""How fast text is tokenised and how much is left, on a terminal and in a log."""

import sys
import time

from e2_common.progress import LOG_SECONDS, TERMINAL_SECONDS, Bar


class Progress:
    """Documents, MB of text and tokens a second, and the time left where the size is known.

    Args:
        total: bytes on disk to be read, or None if that is not known.
    """

    def __init__(self, total: int | None):
        self._start = self._shown = time.monotonic()
        self._total = total
        self._read = 0
        self._terminal = sys.stderr.isatty()
        bounded = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}]"
        self._bar = Bar(
            total=total,
            mininterval=TERMINAL_SECONDS,
            leave=False,
            disable=not self._terminal,
            bar_format=bounded if total else "{desc} [{elapsed}]",
        )

    def update(self, read: int, documents: int, text_bytes: int, tokens: int) -> None:
        """Take note of a batch.

        Args:
            read: bytes on disk read for it.
            documents: documents so far.
            text_bytes: bytes of text so far, after decompression.
            tokens: tokens so far.
        """
        self._read += read
        now = time.monotonic()
        if self._terminal:
            self._bar.set_description_str(
                self._line(documents, text_bytes, tokens, now), refresh=False
            )
            self._bar.update(read)
        elif now - self._shown >= LOG_SECONDS:
            self._shown = now
            line = self._line(documents, text_bytes, tokens, now)
            print(f"{line}{self._left(now)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()

    def _line(self, documents: int, text_bytes: int, tokens: int, now: float) -> str:
        seconds = max(now - self._start, 1e-9)
        return (
            f"{documents:,} documents, {text_bytes / 1e6 / seconds:.1f} MB/s, "
            f"{tokens / 1e6 / seconds:.2f} M tokens/s"
        )

    def _left(self, now: float) -> str:
        if not self._total or not self._read:
            return ""
        share = min(self._read / self._total, 1.0)
        left = (now - self._start) * (1 - share) / share
        hours, seconds = divmod(round(left), 3600)
        return f", {share:.0%}, {hours}:{seconds // 60:02}:{seconds % 60:02} left"
