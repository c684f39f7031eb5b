# SPDX-License-Identifier: Apache-2.0
"""Injects every fault and writes the table of docs/reliability.md.

    python benchmarks/faults.py

Needs root on Linux and iproute2, for network namespaces and a small file system, and for its last
row Slurm and munge; takes about half an hour on 2 cores.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
from e2_common.files import atomic_file
from tests.multihost.fault_table import FOLDER, TESTS, table

PAGE = ROOT / "docs" / "reliability.md"
START, END = "<!-- written by benchmarks/faults.py -->", "<!-- end -->"


def main() -> int:
    """Run the tests, then rewrite the table if all of them passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, default=PAGE, help="to rewrite; default %(default)s")
    parser.add_argument(
        "--rows",
        type=Path,
        default=ROOT / ".pytest_cache" / "faults",
        help="folder for a row a test; default %(default)s",
    )
    parser.add_argument("-k", default="", help="only these tests, as pytest's -k; keeps other rows")
    args = parser.parse_args()
    command = [sys.executable, "-m", "pytest", "-v", "-m", "slow", "-k", args.k, *map(str, TESTS)]
    environment = {**os.environ, FOLDER: str(args.rows.resolve())}
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    rows = table(args.rows)
    print(rows)
    if code == 0:
        before, rest = args.page.read_text(encoding="utf-8").split(START)
        after = rest.split(END)[1]
        with atomic_file(args.page) as temporary:
            temporary.write_text(f"{before}{START}\n\n{rows}\n\n{END}{after}", encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
