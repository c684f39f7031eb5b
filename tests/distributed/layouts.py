# SPDX-License-Identifier: Apache-2.0
"""Parallel layouts of a world of four ranks, and flags for every position method."""

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
METHOD_FLAGS = {
    "none": ["--position-method", "none"],
    "linear": ["--position-method", "linear", "--e2-factor", "4"],
    "ntk": ["--position-method", "ntk", "--e2-factor", "4"],
    "yarn": ["--position-method", "yarn", "--e2-factor", "4"],
    "llama3": ["--position-method", "llama3", "--e2-factor", "4"],
    "pose": ["--position-method", "pose", "--e2-factor", "4"],
    "randpos": ["--position-method", "randpos", "--e2-factor", "4"],
    "e2": ["--position-method", "e2", "--e2-max-scale", "8"],
    "e2_yarn": [
        *("--position-method", "e2", "--e2-max-scale", "8", "--e2-frequencies", "yarn"),
        *("--e2-scale-distribution", "log-uniform"),
    ],
}
