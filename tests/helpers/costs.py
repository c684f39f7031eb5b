# SPDX-License-Identifier: Apache-2.0
"""How long test files take: the long ones begin first, and `make quick` keeps to its time."""

# Seconds of one core, of those above ten; renew with `pytest --durations=0 -vv`.
SECONDS = {
    "tests/distributed/test_layouts.py": 230,
}
OTHERS = 4


def seconds(path: str) -> float:
    """About how long a test file takes; ``path`` is from the project's folder."""
    return SECONDS.get(path, OTHERS)
