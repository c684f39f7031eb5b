# SPDX-License-Identifier: Apache-2.0
"""CLEX's places, and the frequencies that its learned ones start from (arXiv 2310.16450).

scipy integrates their differential equation, in place of torchdiffeq.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn

from benchmarks.official.clones import Clone
from benchmarks.official.findings import Changed, Finding, alike, closely, exactly
from benchmarks.official.ours import method, windows
from e2_llm.frequencies import RULES
from e2_llm.sampler import random_subset

MOST = 16  # G
INTEGRATED = 1e-5  # relative, of frequencies that fp32 slopes are integrated to
RUNS = ((64, 64), (64, 128), (64, 256), (48, 144))  # L, R


def compare(clone: Clone, draws: int) -> Iterator[Finding]:
    """Places from the same random numbers, scales and places as drawn, frequencies, serving."""
    module = Module(clone, unchanged)
    apart, mine = [], []
    for base, train in RUNS:
        for draw, places in windows(method("clex", base, train, max_scale=MOST), draws // 20):
            at = module.places(base, train, scale=int(draw.scale), word=draw.word)
            # With R = k L their last place is g L - 1, ours g L - 1 / k.
            last = None if base == train else -1
            (mine if base == train else apart).append((places[:last], at[:last]))
    yield exactly("places from the same random numbers, R = L", *zip(*mine, strict=True))
    yield exactly("all but the last place, R = 2 L, 3 L, 4 L", *zip(*apart, strict=True))
    it = method("clex", 64, 64, max_scale=MOST)
    ours = list(windows(it, draws))
    theirs = [module.drawn(64, 64) for _ in range(draws)]
    yield alike("scale", [draw.scale for draw, _ in ours], [scale for scale, _ in theirs])
    middles = [places[32] for _, places in ours], [places[32] for _, places in theirs]
    yield alike("place of the middle token", *middles)
    for dim, theta in ((64, 10000.0), (128, 500000.0)):
        wanted = np.concatenate(
            [RULES["ntk-2g"].frequencies(dim, theta, g, 4096).inverse for g in range(1, MOST + 1)]
        )
        found = Module(clone, integrated).frequencies(dim, theta)
        yield closely(f"frequencies before learning, d = {dim}", wanted, found, INTEGRATED)
    lengths = range(65, MOST * 64 + 1, 37)
    mine = [it.serving_scale(length) for length in lengths]
    yield exactly("scale that serves a window", mine, [module.served(64, n) for n in lengths])


class Module:
    """Their rotary module, with its random numbers and its places to be seen.

    Args:
        clone: of their repository.
        odeint: solves the differential equation of the frequencies.
    """

    def __init__(self, clone: Clone, odeint: Callable) -> None:
        self._at: list[Tensor] = []
        self._torch = Changed(torch, outer=self._outer)
        self._classes = clone.run(
            "CLEX/clex_layer.py", "ODELinear", "CLEXScalingRotaryEmbedding",
            torch=self._torch, nn=nn, math=math, odeint=odeint,
        )  # fmt: skip
        self._generator = torch.Generator().manual_seed(1)

    def places(self, base: int, train: int, scale: int, word: int) -> np.ndarray:
        """Their places [R] of a training window, from the numbers of one of our draws."""

        def randint(low: int, high: int, shape: tuple[int], **_: Any) -> Tensor:
            assert (low, high) == (1, MOST + 1)
            return torch.full(shape, scale)

        def randperm(bound: int) -> Tensor:
            return torch.from_numpy(random_subset(word, train - 2, int(bound))[::-1].copy())

        return self._trained(base, train, randint, randperm)

    def drawn(self, base: int, train: int) -> tuple[int, np.ndarray]:
        """A scale and places [R] as they draw them."""
        seen = []

        def randint(low: int, high: int, shape: tuple[int], **_: Any) -> Tensor:
            seen.append(torch.randint(low, high, shape, generator=self._generator))
            return seen[-1]

        def randperm(bound: int) -> Tensor:
            return torch.randperm(int(bound), generator=self._generator)

        places = self._trained(base, train, randint, randperm)
        return int(seen[0]), places

    def frequencies(self, dim: int, theta: float) -> np.ndarray:
        """Their frequencies at the scales 1 to G, one after the other, before anything is learned.

        The learned part begins as zero.
        """
        scales = torch.arange(1.0, MOST + 1)
        with torch.no_grad():
            found = self._embedding(4096, dim, theta).get_continuous_freq(scales, None, "cpu")
        return found.reshape(-1).numpy()

    def served(self, base: int, window: int) -> float:
        """The scale at which they read a window longer than L."""
        it = self._embedding(base, 4)
        with torch.no_grad():
            it(torch.zeros(1), window)
        return float(it.max_t_cached)

    def _trained(self, base: int, train: int, randint: Callable, randperm: Callable) -> np.ndarray:
        self._torch.randint, self._torch.randperm = randint, randperm
        with torch.no_grad():
            self._embedding(base, 4)(torch.zeros(1), train, do_train=True)
        return self._at.pop().numpy()

    def _embedding(self, base: int, dim: int, theta: float = 10000.0) -> nn.Module:
        scaling = {"max_factor": MOST, "param_factor": 1, "act": "silu", "time_dt": 0.1}
        return self._classes.CLEXScalingRotaryEmbedding(dim, base, scaling, theta)

    def _outer(self, places: Tensor, frequencies: Tensor) -> Tensor:
        self._at = [places]
        return torch.outer(places, frequencies)


def integrated(slope: Callable, start: Tensor, times: Tensor, **_: Any) -> Tensor:
    """Stands in for ``torchdiffeq.odeint``: values [times, n]."""

    def at(time: float, value: np.ndarray) -> np.ndarray:
        return slope(torch.tensor(time), torch.tensor(value, dtype=torch.float32)).numpy()

    span = float(times[0]), float(times[-1])
    given = {"t_eval": times.numpy(), "rtol": 1e-6, "atol": 1e-7, "method": "DOP853"}
    solved = solve_ivp(at, span, start.numpy(), **given)
    return torch.tensor(solved.y.T, dtype=torch.float32)


def unchanged(slope: Callable, start: Tensor, times: Tensor, **_: Any) -> Tensor:
    """The start again and again, where only places are looked at."""
    return start.repeat(len(times), 1)
