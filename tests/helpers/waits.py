# SPDX-License-Identifier: Apache-2.0
"""Counts what a host would wait for a device for."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    """While it is on, ``count`` is the number of values that were read off tensors.

    ``bool``, ``float``, ``item`` and ``tolist`` all go through one operator. On a CPU the value is
    there at once; on a GPU all work that was queued has to end first.
    """

    count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))
