# SPDX-License-Identifier: Apache-2.0
"""Which kernel is chosen, from made-up machines; nothing of Megatron or of a GPU is needed."""

import argparse
import dataclasses
import sys

import pytest
import torch

from e2_common.errors import UserError
from megatron_patches.kernels import choice
from megatron_patches.kernels.facts import APEX, LIGER, TE, TRITON, WGRAD, Facts, missing_packages
from megatron_patches.kernels.registry import PARTS, PLAIN

NOT_INSTALLED = {name: f"{name} is not installed" for name in (TE, LIGER, TRITON, APEX, WGRAD)}
CPU = Facts(on_cpu=True, missing=dict.fromkeys(NOT_INSTALLED, "needs a CUDA device"))
BARE = Facts(on_cpu=False, missing={k: v for k, v in NOT_INSTALLED.items() if k != TRITON})
WITH_LIGER = dataclasses.replace(
    BARE, missing={k: v for k, v in BARE.missing.items() if k != LIGER}
)
WITH_TE = dataclasses.replace(
    BARE, te_layers=True, missing={k: v for k, v in BARE.missing.items() if k != TE}
)


def parse(*flags):
    parser = choice.add_arguments(argparse.ArgumentParser())
    parser.add_argument("--transformer-impl", default="transformer_engine")
    parser.add_argument("--attention-backend", default="auto")
    return parser.parse_args(flags)


def choose(facts, *flags, **changes):
    return choice.choose(parse(*flags), dataclasses.replace(facts, **changes))


def test_the_cpu_computes_as_torch_does_by_itself():
    chosen = choose(CPU, dtype=torch.float32)
    assert chosen.names == PLAIN | {"attention": "flash"}
    assert choose(CPU, dropout=0.1)["attention"] == "math"
    assert not list(chosen.missing(CPU))


def test_the_cpu_in_bf16_takes_what_is_faster_there():
    chosen = choose(CPU, dtype=torch.bfloat16)
    assert chosen.names == PLAIN | {"attention": "blocks", "adamw": "fused"}
    assert choose(CPU, dtype=torch.bfloat16, masked=True)["attention"] == "flash"
    assert choose(CPU, dtype=torch.bfloat16, dropout=0.1)["attention"] == "math"
    assert choose(CPU, "--kernel-attention", "flash")["attention"] == "flash"
    with pytest.raises(UserError, match="--kernel-attention blocks: is for CPUs"):
        choose(BARE, "--kernel-attention", "blocks")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (BARE, "cudnn compile compile compile triton fused addmm"),
        (WITH_LIGER, "cudnn liger liger liger triton fused addmm"),
        (WITH_TE, "te te compile compile te te te"),
    ],
    ids=["bare", "liger", "te"],
)
def test_the_best_that_can_run_is_taken(facts, expected):
    chosen = choose(facts)
    assert [chosen[part.name] for part in PARTS] == expected.split()


def test_fp32_on_a_gpu():
    chosen = choose(BARE, dtype=torch.float32)
    assert chosen["attention"] == "efficient"
    assert chosen["cross_entropy"] == "plain"


def test_interleaved_rope_is_fused_only_beside_transformer_engine():
    assert choose(BARE, interleaved=True)["rope"] == "plain"
    assert choose(WITH_TE, interleaved=True, per_sample=True)["rope"] == "triton"


def test_masks_and_wide_heads_move_attention():
    assert choose(BARE, masked=True)["attention"] == "efficient"
    assert choose(BARE, head_dim=192)["attention"] == "flash"
    assert choose(BARE, head_dim=512)["attention"] == "efficient"


def test_a_draw_per_sample_is_never_given_to_a_kernel_that_ignores_it():
    without_triton = {**WITH_TE.missing, TRITON: NOT_INSTALLED[TRITON]}
    assert choose(WITH_TE, per_sample=False)["rope"] == "te"
    assert choose(WITH_TE, per_sample=True)["rope"] == "triton"
    assert choose(WITH_TE, per_sample=True, missing=without_triton)["rope"] == "plain"
    with pytest.raises(UserError, match="--kernel-rope te: rotates all samples .* alike"):
        choose(WITH_TE, "--kernel-rope", "te", per_sample=True)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_kernel_can_be_named_where_it_can_run_and_is_refused_elsewhere(part):
    seen = set()
    for facts in (CPU, BARE, WITH_LIGER, WITH_TE):
        for kernel in part.kernels:
            reason = kernel.blocked(facts)
            flags = (part.flag, kernel.name)
            if reason is None:
                seen.add(kernel.name)
                assert choose(facts, *flags)[part.name] == kernel.name
            else:
                with pytest.raises(UserError) as error:
                    choose(facts, *flags)
                assert str(error.value).startswith(f"{part.flag} {kernel.name}: {reason}. Here: ")
                assert "\n" not in str(error.value)
    never = {kernel.name for kernel in part.kernels} - seen
    assert never <= {"apex"} or part.name == "cross_entropy" and never == {"te"}


def test_a_refusal_names_what_to_install():
    with pytest.raises(UserError) as error:
        choose(BARE, "--kernel-norm", "liger")
    assert str(error.value) == (
        "--kernel-norm liger: liger_kernel is not installed; install liger-kernel. "
        "Here: auto, compile, plain"
    )


def test_what_a_package_would_give_is_said_once():
    lines = list(choose(BARE).missing(BARE))
    assert lines[0].startswith("transformer_engine is not installed (attention: ")
    assert lines[0].endswith("; install Transformer Engine (transformer_engine[pytorch])")
    assert [line.split()[0] for line in lines] == [TE, LIGER, APEX, WGRAD]


def test_switches_of_megatron_are_heard():
    off = {"rope": "--no-rope-fusion", "weight_gradients": "--no-gradient-accumulation-fusion"}
    chosen = choose(WITH_LIGER, off=off)
    assert (chosen["rope"], chosen["weight_gradients"]) == ("plain", "plain")
    with pytest.raises(UserError, match="--kernel-rope triton: --no-rope-fusion says otherwise"):
        choose(WITH_LIGER, "--kernel-rope", "triton", off=off)
    on = {"cross_entropy": "--cross-entropy-loss-fusion"}
    assert choose(WITH_LIGER, on=on)["cross_entropy"] == "compile"
    assert choose(CPU, on=on)["cross_entropy"] == "compile"


def test_parts_that_a_run_has_not():
    chosen = choose(BARE, normalization="LayerNorm", swiglu=False, optimizer="sgd")
    assert "norm Megatron's LayerNorm, SwiGLU none" in chosen.report()
    with pytest.raises(UserError, match="--kernel-adamw fused: this run has none, but sgd"):
        choose(BARE, "--kernel-adamw", "fused", optimizer="sgd")


def test_layers_of_transformer_engine(monkeypatch):
    there, away = {}, {TE: NOT_INSTALLED[TE]}
    monkeypatch.setattr(choice, "missing_packages", lambda *args: there)
    assert "transformer_impl" not in choice.megatron_defaults(parse(), False)
    local = ("--transformer-impl", "local")
    for flags in (local, ("--kernel-attention", "cudnn"), ("--kernel-norm", "plain")):
        assert choice.megatron_defaults(parse(*flags), False)["transformer_impl"] == "local"
    with pytest.raises(UserError, match="--kernel-norm te and --kernel-attention flash"):
        choice.megatron_defaults(parse("--kernel-norm", "te", "--kernel-attention", "flash"), False)
    with pytest.raises(UserError, match="--kernel-norm te: .* not of --transformer-impl local"):
        choice.megatron_defaults(parse("--kernel-norm", "te", *local), False)
    monkeypatch.setattr(choice, "missing_packages", lambda *args: away)
    assert choice.megatron_defaults(parse(), False)["transformer_impl"] == "local"
    with pytest.raises(UserError, match="--attention-backend flash: .* use --kernel-attention"):
        choice.megatron_defaults(parse("--attention-backend", "flash"), False)


def test_a_package_that_does_not_load_is_missing_with_the_reason(tmp_path, monkeypatch, request):
    for name in ("transformer_engine", "transformer_engine.pytorch"):
        folder = tmp_path / name.replace(".", "/")
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        monkeypatch.setitem(sys.modules, name, None)  # so that it is gone again afterwards
        monkeypatch.delitem(sys.modules, name)
    broken = "raise OSError('undefined symbol: cublasLt\\nsecond line')"
    (tmp_path / "transformer_engine/pytorch/__init__.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    missing_packages.cache_clear()
    request.addfinalizer(missing_packages.cache_clear)
    reason = missing_packages(False, False)[TE]
    assert reason == (
        "transformer_engine is installed but does not load: undefined symbol: cublasLt"
    )


def test_megatron_arguments_follow_the_choice():
    args = argparse.Namespace(bias_swiglu_fusion=None)
    choice.set_megatron_arguments(args, choose(WITH_LIGER))
    assert args.apply_rope_fusion
    assert args.gradient_accumulation_fusion
    assert args.cross_entropy_loss_fusion
    assert args.bias_swiglu_fusion
    choice.set_megatron_arguments(args, choose(CPU))
    assert not any(
        getattr(args, name)
        for name in ("apply_rope_fusion", "gradient_accumulation_fusion", "bias_swiglu_fusion")
    )
