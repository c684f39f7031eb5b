# SPDX-License-Identifier: Apache-2.0
"""Freed memory that stays with the process.

glibc asks the system for every large block and gives it back when it is freed. The system clears
each page of it anew, one fault at a time. A training step makes and drops the same large tensors
over and over, and spends a tenth of its time on that. What makes tensors of ever other sizes, such
as evaluation, is better off without: they leave holes that only the system could fill.
"""

import ctypes

# Of malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
GROWTH = 64 * 2**20  # bytes that are asked for at once


def keep_freed_memory() -> bool:
    """Let this process use again what it frees, from now on; it then keeps its largest size.

    Returns:
        Whether that is so: the C library is glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # No block of its own for a large one, and the end of the heap is never given back.
    options = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1, M_TOP_PAD: GROWTH}
    taken = [mallopt(option, value) for option, value in options.items()]
    return all(taken)
