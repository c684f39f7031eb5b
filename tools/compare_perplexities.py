# SPDX-License-Identifier: Apache-2.0
"""Runs ``e2_tools.commands.compare_perplexities`` from a checkout, installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from e2_tools.commands.compare_perplexities import main

if __name__ == "__main__":
    main()
