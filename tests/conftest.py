# SPDX-License-Identifier: Apache-2.0
"""All tests: one thread a process, set before torch is imported; what they start finds us.

Tiny models gain nothing from more; worlds of ranks and pools of workers share the cores.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# For the scripts and ranks that tests start: this checkout before any that is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
