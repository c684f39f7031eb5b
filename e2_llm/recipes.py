# SPDX-License-Identifier: Apache-2.0
"""``--e2-recipe``: the three choices of E2-LLM together, as the paper makes them and as we would.

How g is drawn, what g does to the frequencies, and where the tokens of a window are placed.
``best`` won the search of examples/position_methods/search.txt, its number of skips included, which
is the default of ``--e2-skips``; docs/comparison.md compares it with ``paper``.
"""

from typing import Any

# Fields of E2Config; a flag of the command line overrules each.
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {
        "scale_distribution": "uniform-integer",
        "frequencies": "linear",
        "placement": "offset",
    },
    "best": {
        "scale_distribution": "log-uniform",
        "frequencies": "yarn",
        "placement": "skips",
    },
}
DEFAULT = "paper"
CHOICES = tuple(RECIPES[DEFAULT])
