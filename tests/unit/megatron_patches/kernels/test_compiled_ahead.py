# SPDX-License-Identifier: Apache-2.0
"""Triton's kernels compiled for GPUs that are not here: they assemble, and nothing spills."""

import re
import subprocess
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
triton = pytest.importorskip("triton")
ARCHITECTURES = (80, 90)
# Stands for any pointer, stride or number; 16 is Triton's word for a multiple of it.
BF16, FP32, STRIDE = "*bf16", "*fp32", "i32"


def compiled(kernel, signature, constants, architecture, warps=4):
    """The assembler's report on a kernel."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    order = [p.name for p in kernel.params]
    kinds = {name: signature.get(name, "constexpr") for name in order}
    divisible = {(order.index(name),): [["tt.divisibility", 16]] for name in signature}
    source = ASTSource(fn=kernel, signature=kinds, constexprs=constants, attrs=divisible)
    target = GPUTarget("cuda", architecture, 32)
    made = triton.compile(source, target=target, options={"num_warps": warps})
    ptx = made.asm["ptx"]
    assembler = next((Path(triton.__file__).parent / "backends/nvidia/bin").glob("ptxas"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.ptx"
        file.write_text(ptx)
        arch = re.search(r"\.target (\w+)", ptx)[1]
        command = [assembler, "-v", f"-arch={arch}", file, "-o", Path(folder) / "kernel.cubin"]
        report = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return ptx, report.stderr


def spills(report):
    """Bytes of registers that went to memory."""
    return sum(int(count) for count in re.findall(r"(\d+) bytes spill", report))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_the_rotation_compiles_and_does_not_spill(architecture, interleaved, dtype):
    from megatron_patches.kernels.rope_triton import rotate_kernel

    strides = "x_token x_sample x_head y_token y_sample y_head angle_token angle_sample".split()
    signature = {"x": f"*{dtype}", "y": f"*{dtype}", "cos": FP32, "sin": FP32}
    signature |= dict.fromkeys(strides, STRIDE)
    constants = {"HEADS": 32, "PAIRS": 64, "HEAD_BLOCK": 16, "PAIR_BLOCK": 64}
    constants |= {"STEP": 2 if interleaved else 1, "GAP": 1 if interleaved else 64}
    ptx, report = compiled(rotate_kernel, signature, constants, architecture)
    assert spills(report) == 0
    registers = int(re.search(r"Used (\d+) registers", report)[1])
    assert registers <= 128  # four warps: half of a multiprocessor's threads fit at the least
    if not interleaved:  # then neighbours lie side by side in memory
        width = r"v4\.b32" if dtype != "fp32" else r"v[24]\.(b32|f32|b64)"
        assert re.search(rf"ld\.global\S*\.{width}", ptx), "loads are not vectors"
