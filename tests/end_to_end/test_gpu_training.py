# SPDX-License-Identifier: Apache-2.0
"""benchmarks/gpu_training.py on a CPU at toy size, and its arithmetic against published numbers."""

import json

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.gpu import session
from benchmarks.gpu.models import (
    DEMANDS,
    GIB,
    PRESETS,
    activation_bytes,
    layers_that_fit,
    needed_bytes,
)
from benchmarks.gpu.plan import plan
from benchmarks.gpu.profile import busy_time, kernel_class, summarize
from benchmarks.gpu.table import ratios, table
from benchmarks.gpu.transformers_run import without_mask
from benchmarks.gpu_training import build_parser
from tests.helpers import ROOT
from tests.helpers.commands import refused_by, run_command
from tests.helpers.quick_python import quick_python

TINY = "--device cpu --preset tiny --warm-up 1 --micro-batches 2 --profile-steps 1".split()
LLAMA = PRESETS["llama2-7b"]


def benchmark(*arguments, script="benchmarks/gpu_training.py", code=0):
    return run_command(script, *arguments, code=code, timeout=150, PYTHON=quick_python())


def test_every_variant_is_measured_and_written(tmp_path):
    output = tmp_path / "speed.json"
    run = benchmark(*TINY, "--steps", "2", "--output", str(output), "--kernel-attention", "math")
    result = json.loads(output.read_text())
    assert result["schema"] == "e2-llm/gpu-training/1"
    assert result["provenance"]["versions"]["torch"]
    assert [row["name"] for row in result["variants"]] == [
        "ours, E2",
        "ours, fixed RoPE",
        "stock Megatron, local layers",
        "transformers, SDPA, torch.compile",
    ]
    for row in result["variants"]:
        assert row["layers"] == 2
        assert len(row["seconds"]) == 2
        assert row["tokens_per_second"] == pytest.approx(2 * 64 / row["median_seconds"])
        assert row["mfu_causal"] is None  # of a CPU's peak nothing is known
        assert "note" not in row
        if row["name"] != "ours, fixed RoPE":
            assert row["profile"]["milliseconds"]["matrix products"] > 0
    ours, _, stock, _ = result["variants"]
    assert ours["kernels"]["attention"] == "math"
    assert stock["kernels"]["attention"] == "Megatron's DotProductAttention"
    assert [ratio["of"] for ratio in result["ratios"]] == [
        row["name"] for row in result["variants"][1:]
    ]
    assert output.with_suffix(".png").stat().st_size > 10_000
    assert "kernels of ours, E2: attention math, norm plain" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--device cuda", "error: --device cuda: no CUDA device was found; try --device cpu"),
        ("--steps 0", "error: --steps 0: must be above 0"),
        ("--lr 1", "error: --lr: not known here; of Megatron's side only --kernel-*"),
    ],
)
def test_bad_input_is_one_line(arguments, line):
    assert f"error: {refused_by(benchmark(*arguments.split(), code=2), ())}" == line


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_first_check_ends_at_one_of_its_steps(tmp_path):
    words = ["--device", "cpu", "--out", tmp_path / "out", "--until"]
    for until in ("0", "7", "four"):
        run = benchmark(*words, until, script="benchmarks/gpu_first_check.sh", code=2)
        refused_by(run, f"--until {until}")
    assert not (tmp_path / "out").exists()


def test_the_first_check_runs_through(tmp_path):
    out = tmp_path / "out"
    script = "benchmarks/gpu_first_check.sh"
    words = ["--device", "cpu", "--out", out]
    run = run_command(script, *words, timeout=380, PYTHON=quick_python())
    assert "largest difference of fp32 logits, cpu against cpu: 0.0e+00" in run.stdout
    rows = json.loads((out / "correctness.json").read_text())["correctness"]
    checked = {(row["part"], row["kernel"]) for row in rows if row.get("passed")}
    assert {("attention", "flash"), ("weight_gradients", "addmm"), ("adamw", "fused")} <= checked
    assert ("positions", "E2 at g = 5, t = 0") in checked
    assert (out / "speed.json").exists()


@pytest.mark.slow
def test_the_check_of_kernels_fails_where_one_is_wrong(tmp_path):
    script = tmp_path / "broken.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from megatron_patches.kernels import weight_gradients\n"
        "weight_gradients.wgrad_gemm_accum_fp32 = lambda x, dy, grad: grad.addmm_(dy.t(), -x)\n"
        "from benchmarks.gpu_training import main\n"
        "main()\n"
    )
    run = benchmark(*TINY, "--correctness", script=str(script), code=1)
    failed = [line for line in run.stdout.splitlines() if "FAILED" in line]
    assert [line.split("|")[1:3] for line in failed] == [[" weight_gradients ", " addmm "]]


def test_compiled_transformers_is_causal_without_a_mask():
    """With one its attention takes three times as long, and the comparison would be unfair."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "vocab_size": 64}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, use_cache=False))
    tokens = torch.randint(64, (1, 32), generator=torch.Generator().manual_seed(1))
    expected = model(input_ids=tokens, labels=tokens).loss.item()
    calls = []

    def backend(graph, _inputs):
        calls.extend(n.kwargs for n in graph.graph.nodes if "scaled_dot" in str(n.target))
        return graph.forward

    with without_mask():
        loss = torch.compile(model, backend=backend)(input_ids=tokens, labels=tokens).loss.item()
    assert [call["is_causal"] for call in calls] == [True]
    assert loss == pytest.approx(expected, rel=1e-6)


def test_flops_are_those_of_the_published_tables():
    assert LLAMA.sizes.parameters == 6_738_415_616
    assert LLAMA.sizes.flops(4096, causal=True) == pytest.approx(42.86e9, rel=2e-4)
    assert LLAMA.sizes.flops(4096, causal=False) == pytest.approx(46.08e9, rel=2e-4)
    larger = PRESETS["llama2-13b"].sizes
    assert larger.flops(4096, causal=True) == pytest.approx(82.14e9, rel=1e-4)
    assert larger.flops(4096, causal=False) == pytest.approx(87.18e9, rel=1e-4)


def test_layers_are_cut_to_the_memory():
    assert activation_bytes(LLAMA.sizes) == 148_112
    ours = DEMANDS["ours"]
    assert needed_bytes(LLAMA, ours, 32, 1) / GIB == pytest.approx(134.1, abs=1)
    assert layers_that_fit(LLAMA, ours, 139 * GIB, 1) == 32
    fits = layers_that_fit(LLAMA, ours, 79 * GIB, 1)
    assert needed_bytes(LLAMA, ours, fits, 1) <= 79 * GIB < needed_bytes(LLAMA, ours, fits + 1, 1)
    assert layers_that_fit(LLAMA, ours, 5 * GIB, 1) == 0


def test_the_plan_compares_at_one_depth_and_shows_ours_at_its_own():
    options = build_parser().parse_args([])
    runs = plan(LLAMA, options, 139.8 * GIB)
    assert [(run["variant"], run["layers"]) for run in runs[:1]] == [("ours", 32)]
    assert {run["variant"] for run in runs[1:]} == set(options.variants)
    assert len({run["layers"] for run in runs[1:]}) == 1
    assert runs[1]["layers"] < 32
    assert "32 of 32 layers: 135 GiB by arithmetic" in runs[0]["why"]
    options.layers = 3
    assert [run["layers"] for run in plan(LLAMA, options, 139.8 * GIB)] == [3, 3, 3]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("nvjet_sm90_tst_256x128_64x4_2x1_v_bz_coopA_NTT", "matrix products"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "matrix products"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7", "attention"),
        ("void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<...>", "attention"),
        ("rotate_kernel", "RoPE"),
        ("_rms_norm_forward_kernel", "norm"),
        ("void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<...>", "norm"),
        ("liger_vocab_parallel_ce_forward_kernel", "cross entropy"),
        (
            "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<..FusedAdam..>",
            "optimizer",
        ),
        ("Memcpy DtoD (Device -> Device)", "copies"),
        ("triton_poi_fused_mul_silu_0", "elementwise"),
        ("_swiglu_fused_gate_up_forward_kernel", "elementwise"),
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL", "communication"),
    ],
)
def test_kernels_go_to_their_class(name, label):
    assert kernel_class(name) == label


def test_idle_time_is_what_no_kernel_covers():
    assert busy_time([(0, 2), (1, 3), (5, 6), (5, 5.5)]) == 4
    events = [("gemm", 0.0, 2000.0, 2000.0), ("adam", 3000.0, 4000.0, 1000.0)]
    summary = summarize(events, steps=2)
    assert summary["milliseconds"] == {"matrix products": 1.0, "optimizer": 0.5}
    assert summary["idle_milliseconds"] == 0.5
    assert summary["span_milliseconds"] == 2.0
    assert summarize([], steps=1)["span_milliseconds"] == 0.0


def test_the_price_of_e2_is_a_median_of_paired_steps():
    rows = [
        {"name": name, "layers": 2, "seconds": seconds, "median_seconds": seconds[1]}
        for name, seconds in (
            ("ours, E2", [1.0, 2.2, 3.0]),
            ("ours, fixed RoPE", [1.0, 2.0, 3.0]),
            ("stock Megatron, local layers", [4.4, 4.4, 4.4]),
        )
    ]
    price, stock = ratios(rows, seed=1)
    assert price["time"] == 1.0
    assert price["interval"][0] == 1.0
    assert stock["time"] == pytest.approx(0.5)


class Told:
    """Stands in for the processes of the variants."""

    def __init__(self, monkeypatch, limit):
        self.limit, self.asked, self.kept = limit, [], []
        monkeypatch.setattr(session, "_alone", self)

    def __call__(self, run, seconds):
        self.asked.append((run["variant"], run["layers"]))
        if run["variant"] == "stock" and run["layers"] > self.limit:
            return {"failed": session.OUT_OF_MEMORY}
        if run["variant"] == "transformers":
            return {"failed": "Triton Error"}
        timed = {"seconds": [1.0], "median_seconds": 1.0, "layers": run["layers"]}
        timed |= {"note": "", "kernels": {}, "profile": None}
        return {"rows": [{"name": name, **timed} for name in session.NAMES[run["variant"]]]}

    def run(self, rows):
        options = build_parser().parse_args([])
        runs = [{"variant": v, "layers": 11, "why": ""} for v in ("ours", "stock", "transformers")]
        return session.measure_all(
            runs, options, rows, lambda body: self.kept.append(json.loads(json.dumps(body)))
        )


def test_what_fails_is_a_row_and_what_does_not_fit_is_tried_with_fewer_layers(monkeypatch):
    told = Told(monkeypatch, limit=9)
    body = told.run([])
    assert told.asked == [
        ("ours", 11),
        ("stock", 11),
        ("stock", 10),
        ("stock", 9),
        ("ours", 9),
        ("transformers", 11),
    ]
    assert [len(kept["variants"]) for kept in told.kept] == [2, 3, 4, 5, 7, 8]
    assert body["variants"][-1]["failed"] == "Triton Error"
    compared = [(ratio["of"], ratio["layers"]) for ratio in body["ratios"]]
    assert ("stock Megatron, local layers", 9) in compared
    assert "failed: out of memory" in table(body)


def test_the_same_command_goes_on(monkeypatch):
    told = Told(monkeypatch, limit=11)
    before = [row for row in told.run([])["variants"] if not row.get("failed")]
    told.asked.clear()
    told.run(before)
    assert told.asked == [("transformers", 11)]


def test_a_file_of_other_settings_is_kept(tmp_path):
    output = tmp_path / "speed.json"
    output.write_text('{"schema": "e2-llm/gpu-training/1", "settings": {}, "device": "CPU"}')
    run = benchmark(*TINY, "--output", str(output), code=2)
    assert "holds no measurement of this device with these settings" in refused_by(run, ())
    assert json.loads(output.read_text())["settings"] == {}
