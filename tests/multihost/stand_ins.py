# SPDX-License-Identifier: Apache-2.0
"""Programs that stand in for torchrun and its ranks where only signals matter."""

import sys

# Stands in for Python: a torchrun with two ranks, which save when they get SIGTERM.
TORCHRUN = f"""#!{sys.executable}
import os, subprocess, sys
from pathlib import Path
state = Path(os.environ["STATE"])
(state / "command").write_text(" ".join(sys.argv))
ranks = [subprocess.Popen([sys.executable, str(state / "rank"), str(rank)]) for rank in (1, 2)]
sys.exit(max(rank.wait() for rank in ranks))
"""
RANK = """
import os, signal, sys, time
from pathlib import Path
state, rank = Path(os.environ["STATE"]), sys.argv[1]
def save(*_):
    time.sleep(1)
    (state / f"saved-{rank}").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
(state / f"ready-{rank}").touch()
time.sleep(50)
sys.exit(9)
"""
