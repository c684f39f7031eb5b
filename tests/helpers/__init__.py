# SPDX-License-Identifier: Apache-2.0
"""What tests of several folders share: tiny models and corpora, and how commands are run."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
