# SPDX-License-Identifier: Apache-2.0
"""All tests: one thread a process, set before torch is imported.

Tiny models gain nothing from more; worlds of ranks and pools of workers share the cores.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
