# SPDX-License-Identifier: Apache-2.0
"""Parallel layouts of a world of four ranks, and flags for every position method."""

from e2_llm import METHODS
from e2_llm.placements import PLACEMENTS
from tests.helpers.rules import settings_of

HEAD = 16  # size of a head of the tiny model
LAYOUTS = {
    "TP1": [],
    "TP2": ["--tensor-model-parallel-size", "2"],
    "PP2": ["--pipeline-model-parallel-size", "2"],
    "TP2×PP2": ["--tensor-model-parallel-size", "2", "--pipeline-model-parallel-size", "2"],
    "VPP": [
        *("--pipeline-model-parallel-size", "2"),
        *("--num-layers-per-virtual-pipeline-stage", "1"),
    ],
    "TP2+SP": ["--tensor-model-parallel-size", "2", "--sequence-parallel"],
    "DP4, distributed optimizer": ["--use-distributed-optimizer"],
}
RECOMPUTE = [
    *("--recompute-granularity", "full", "--recompute-method", "uniform"),
    *("--recompute-num-layers", "1"),
]
# The layout in which most can go wrong: stages see micro-batches in another order, and later again.
HARDEST = [*LAYOUTS["VPP"], *LAYOUTS["TP2+SP"], *RECOMPUTE]


def _method_flags(name: str) -> list[str]:
    """The flags that a method needs, and no others."""
    reads = METHODS[name].reads
    flags = ["--position-method", name]
    if "factor" in reads:
        flags += ["--e2-factor", "4"]
    if "max_scale" in reads:
        flags += ["--e2-max-scale", "8"]
    for field, value in settings_of(name, HEAD).items():
        flags += [f"--e2-{field.replace('_', '-')}", str(value)]
    return flags


_E2 = ["--position-method", "e2", "--e2-max-scale", "8"]
_E2_YARN = [*_E2, "--e2-frequencies", "yarn", "--e2-scale-distribution", "log-uniform"]
# Every method, and e2 with every placement but turns, which needs a corpus with loss masks: all the
# other rows would then have the losses of another corpus.
METHOD_FLAGS = {
    **{name: _method_flags(name) for name in METHODS},
    "e2_yarn": _E2_YARN,
    **{
        f"e2_{name}": [*_E2_YARN, "--e2-placement", name]
        for name in PLACEMENTS
        if name not in ("offset", "turns")
    },
    "e2_mixture": [*_E2_YARN, "--e2-placement", "skips:0.5,offset:0.3,random:0.2"],
}
# Both kinds of joints, on a corpus with loss masks.
AT_JOINTS = [*_E2_YARN, "--e2-placement", "sentences:0.5,turns:0.5"]
# What differs in more than frequencies: every way to draw, and every placement.
DRAWING = [
    *("none", "linear", "yarn", "e2_yarn", "e2_mixture"),
    *(name for name, method in METHODS.items() if method.draws() or name == "endprompt"),
]
