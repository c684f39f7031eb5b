# SPDX-License-Identifier: Apache-2.0
"""Triton's kernels compiled for GPUs that are not here: they assemble, and nothing spills."""

import inspect
import re
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

pytestmark = pytest.mark.slow
triton = pytest.importorskip("triton")
ARCHITECTURES = (80, 90)
# Stands for any pointer, stride or number; 16 is Triton's word for a multiple of it.
BF16, FP32, STRIDE = "*bf16", "*fp32", "i32"


def compiled(kernel, signature, constants, architecture, warps=4, multiples=None):
    """A kernel's assembly and the assembler's report on it.

    ``multiples`` names the arguments that are multiples of 16; None for all of the signature.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    order = [p.name for p in kernel.params]
    kinds = {name: signature.get(name, "constexpr") for name in order}
    multiples = signature if multiples is None else multiples
    divisible = {(order.index(name),): [["tt.divisibility", 16]] for name in multiples}
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


def registers(report):
    """Registers of a thread."""
    return int(re.search(r"Used (\d+) registers", report)[1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(
    ("dtype", "of_group"), [("bf16", 1), ("bf16", 4), ("fp16", 1), ("fp32", 1)]
)
def test_the_rotation_compiles_and_does_not_spill(architecture, interleaved, dtype, of_group):
    from megatron_patches.kernels.rope_triton import rotate_kernel

    strides = "x_token x_sample x_group x_head y_token y_sample y_group y_head".split()
    strides += ["angle_token", "angle_sample"]
    signature = {"x": f"*{dtype}", "y": f"*{dtype}", "cos": FP32, "sin": FP32}
    signature |= dict.fromkeys(strides, STRIDE)
    constants = {"HEADS": 32, "OF_GROUP": of_group, "PAIRS": 64, "HEAD_BLOCK": 16, "PAIR_BLOCK": 64}
    constants |= {"STEP": 2 if interleaved else 1, "GAP": 1 if interleaved else 64}
    constants |= {"ROTATE": True}
    ptx, report = compiled(rotate_kernel, signature, constants, architecture)
    assert spills(report) == 0
    # Of four warps a program; a quarter of a multiprocessor's threads fit at the least.
    assert registers(report) <= 128
    if not interleaved:  # then neighbours lie side by side in memory
        width = r"v4\.b32" if dtype != "fp32" else r"v[24]\.(b32|f32|b64)"
        assert re.search(rf"ld\.global\S*\.{width}", ptx), "loads are not vectors"


# Llama-2-7B: a window, hidden size, that of the feed-forward network, vocabulary.
TOKENS, HIDDEN, FFN, VOCABULARY = 4096, 4096, 11008, 32000


def empty(*shape, dtype=torch.bfloat16):
    """A tensor that has a shape and no content; one of floats needs a gradient."""
    floating = dtype.is_floating_point
    return torch.empty(shape, dtype=dtype, device="meta", requires_grad=floating)


def liger_norm():
    from megatron_patches.kernels.norm import LigerRMSNorm

    config = SimpleNamespace(layernorm_zero_centered_gamma=False, sequence_parallel=False)
    with torch.device("meta"):
        norm = LigerRMSNorm(config, HIDDEN).bfloat16()
    return norm(empty(TOKENS, 1, HIDDEN))


def liger_swiglu():
    from megatron_patches.kernels.liger import SwiGLU

    return SwiGLU.apply(empty(TOKENS, 2 * FFN), False, False)


def liger_cross_entropy():
    from megatron_patches.kernels.liger import cross_entropy

    return cross_entropy(empty(TOKENS, 1, VOCABULARY), empty(TOKENS, 1, dtype=torch.int64))


# Part -> kernel -> bytes that spill on sm_80 and on sm_90, loads and stores of single numbers (a
# row has a statistic, a label, a loss), and programs that a multiprocessor's registers hold.
LIGER = {
    liger_norm: {
        "_rms_norm_forward_kernel": ((0, 0), 1, 6),
        "_rms_norm_backward_kernel": ((0, 0), 1, 2),
    },
    liger_swiglu: {
        "_swiglu_fused_gate_up_forward_kernel": ((0, 0), 0, 4),
        "_swiglu_fused_gate_up_backward_kernel": ((0, 0), 0, 2),
    },
    # 1,024 threads a program: one fills half of a multiprocessor's threads.
    liger_cross_entropy: {
        "liger_vocab_parallel_ce_forward_kernel": ((0, 0), 5, 1),
        "liger_vocab_parallel_ce_backward_kernel": ((0, 0), 3, 1),
    },
}


def launched(part):
    """(kernel, arguments by name, warps) of every launch, forward and backward, as it is made."""
    launches = []

    def run(kernel, *args, grid, warmup, num_warps=4, **options):
        bound = inspect.signature(kernel.fn).bind(*args, **options)
        bound.apply_defaults()
        launches.append((kernel, bound.arguments, num_warps))

    with mock.patch.object(triton.runtime.jit.JITFunction, "run", run):
        outputs = part()
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        torch.autograd.backward(outputs, [torch.empty_like(one) for one in outputs])
    return launches


def specialised(kernel, arguments):
    """Signature, constants and multiples of 16, as Triton makes them of the arguments.

    torch's allocator gives addresses that are multiples of 16.
    """
    kinds = {torch.bfloat16: BF16, torch.float32: FP32, torch.int64: "*i64"}
    signature, constants, multiples = {}, {}, []
    for parameter in kernel.params:
        name, value = parameter.name, arguments[parameter.name]
        if parameter.is_constexpr or value is None or (isinstance(value, int) and value == 1):
            constants[name] = value
        elif isinstance(value, float):
            signature[name] = "fp32"
        else:
            signature[name] = kinds[value.dtype] if torch.is_tensor(value) else "i32"
            if torch.is_tensor(value) or value % 16 == 0:
                multiples.append(name)
    return signature, constants, multiples


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("part", LIGER)
def test_ligers_kernels_compile_at_llama_2_7b(part, architecture):
    pytest.importorskip("liger_kernel")
    found = launched(part)
    assert [kernel.__name__ for kernel, _, _ in found] == list(LIGER[part])
    for kernel, arguments, warps in found:
        signature, constants, multiples = specialised(kernel, arguments)
        ptx, report = compiled(kernel, signature, constants, architecture, warps, multiples)
        spilt, singles, programs = LIGER[part][kernel.__name__]
        name = f"{kernel.__name__}, {warps} warps: {report}"
        assert spills(report) == spilt[ARCHITECTURES.index(architecture)], name
        accesses = re.findall(r"(?:ld|st)\.global\S*", ptx)
        vectors = [access for access in accesses if access.endswith(".v4.b32")]  # 16 bytes
        assert vectors, name
        assert len(accesses) - len(vectors) == singles, accesses
        each = 32 * warps * -(-registers(report) // 8) * 8  # given out in eights a thread
        assert min(65536 // each, 2048 // (32 * warps)) >= programs, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("groups", [32, 8])
def test_the_joint_rotation_compiles_at_32_heads(groups, architecture):
    from megatron_patches.kernels.rope import rotate_joint

    head, sizes = 128, [32 // groups * 128, 128, 128]
    freqs = torch.empty(TOKENS, 1, 1, head, device="meta")

    def joint_rotation():
        return rotate_joint(empty(TOKENS, 1, groups, sum(sizes)), freqs, freqs, sizes)

    found = launched(joint_rotation)
    kinds = [arguments["ROTATE"] for _, arguments, _ in found]
    assert kinds == [True, True, True, True, False]  # queries, keys, both back, values back
    for kernel, arguments, warps in found:
        signature, constants, multiples = specialised(kernel, arguments)
        ptx, report = compiled(kernel, signature, constants, architecture, warps, multiples)
        assert spills(report) == 0
        assert registers(report) <= 128
        accesses = re.findall(r"(?:ld|st)\.global\S*", ptx)
        assert accesses
        # The keys of 8 heads give each thread no more than 8 bytes.
        assert all(re.search(r"\.v[24]\.b32$", access) for access in accesses), accesses
