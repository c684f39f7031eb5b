# SPDX-License-Identifier: Apache-2.0
"""Bytes of tensors that are alive, by part, and when they are most.

Every storage counts once, from the operation that made it until the last tensor or saved gradient
input lets go of it. With torch's ``FakeTensorMode`` below it nothing is computed and nothing is
allocated, so a model of any size can be looked at.
"""

import contextlib
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts while it is entered.

    Args:
        part_of: of a new tensor, the operation that made it and its arguments -> the part that it
            belongs to; None for that of the running moment.

    Attributes:
        parts: part -> bytes now.
        peaks: moment -> its parts when they were most together.
    """

    def __init__(self, part_of: Callable[[Tensor, Any, tuple], str | None]) -> None:
        super().__init__()
        self.parts: Counter[str] = Counter()
        self.peaks: dict[str, dict[str, int]] = {}
        self._part_of = part_of
        self._known: dict[int, tuple[weakref.ref, str, int]] = {}
        self._moment = self._default = ""

    @contextlib.contextmanager
    def moment(self, name: str, part: str) -> Iterator[None]:
        """Count what the body makes as ``part``, and note its peak under ``name``."""
        before = self._moment, self._default
        self._moment, self._default = name, part
        self._note()
        try:
            yield
        finally:
            self._moment, self._default = before

    def hold(self, part: str, tensors: Iterable[Tensor]) -> None:
        """Count tensors, known or not, as ``part`` from now on."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            known = self._known.get(id(storage))
            if known is not None:
                self._known.pop(id(storage))
                self.parts[known[1]] -= known[2]
            self._add(storage, part)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in self._known:
                    self._add(storage, self._part_of(tensor, func, args) or self._default)
        return result

    def _add(self, storage: torch.UntypedStorage, part: str) -> None:
        key, size = id(storage), storage.nbytes()

        def gone(_: weakref.ref) -> None:
            known = self._known.pop(key, None)
            if known is not None:
                self.parts[known[1]] -= known[2]

        self._known[key] = (weakref.ref(storage, gone), part, size)
        self.parts[part] += size
        self._note()

    def _note(self) -> None:
        if not self._moment:
            return
        peak = self.peaks.setdefault(self._moment, {})
        if self.parts.total() > sum(peak.values()) or not peak:
            self.peaks[self._moment] = dict(self.parts)
