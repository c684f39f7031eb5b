# SPDX-License-Identifier: Apache-2.0
"""Runs Python scripts one after another in one process, which loads what they share only once.

python examples/common/in_turn.py tools/a.py ARGUMENTS -- tools/b.py ARGUMENTS
"""

import runpy
import sys

BETWEEN = "--"


def main() -> None:
    """Run the scripts of the command line; the first one that fails ends all."""
    commands: list[list[str]] = [[]]
    for word in sys.argv[1:]:
        if word == BETWEEN:
            commands.append([])
        else:
            commands[-1].append(word)
    for command in commands:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    main()
