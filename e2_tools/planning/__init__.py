# SPDX-License-Identifier: Apache-2.0
"""What a training run needs: memory by part, time, money; behind ``tools/plan_memory.py``."""
