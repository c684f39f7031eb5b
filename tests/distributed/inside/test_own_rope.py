# SPDX-License-Identifier: Apache-2.0
"""A model's own RoPE is never dropped: every argument of Megatron, under every method and rule."""

import inspect

import pytest
import torch
from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
from torch import nn

from e2_llm.arguments import own_rope
from e2_llm.config import E2Config
from e2_llm.frequencies import RULES
from e2_llm.registry import METHODS
from e2_llm.sampler import Draw
from megatron_patches.model.build import install_rotary
from tests.distributed.inside.models import built, megatron_args
from tests.helpers.rules import settings_of

# Every argument of Megatron that changes angles, with a value that does.
ARGUMENTS = {
    "rotary_base": 500000,
    "rotary_percent": 0.5,
    "rotary_interleaved": True,
    "rotary_seq_len_interpolation_factor": 4,
    "use_rope_scaling": True,
    "rope_scaling_factor": 32.0,
}
# What they say of positions, but not to the module of --position-embedding-type rope.
OTHERS = {
    *("use_rotary_position_embeddings", "no_rope_freq", "no_rope_fusion", "apply_rope_fusion"),
    *("fused_single_qkv_rope", "mrope_section", "rope_type"),
    *("rotary_scaling_factor", "dsa_indexer_rope_interleaved"),  # of latent attention
}


def flags_of(names):
    values = {f"--{name.replace('_', '-')}": ARGUMENTS[name] for name in names}
    return [word for flag, value in values.items()
            for word in ([flag] if value is True else [flag, str(value)])]  # fmt: skip


def test_the_table_of_arguments_is_whole(model_parallel, monkeypatch):
    """A new argument of Megatron has to be looked at, whatever it is called."""
    args = megatron_args(monkeypatch, model_parallel)
    about_rope = {name for name in vars(args) if "rope" in name.split("_") or "rotary" in name}
    about_rope = {name for name in about_rope if not name.startswith(("e2_", "kernel_"))}
    assert about_rope == {*ARGUMENTS} | (OTHERS & about_rope)
    module = set(inspect.signature(RotaryEmbedding).parameters)
    said_otherwise = {"seq_len_interpolation_factor", "rope_scaling"}
    known = {*ARGUMENTS, *said_otherwise, "kv_channels", "use_cpu_initialization", "cp_group"}
    assert module <= known


def module_of(args):
    """What the arguments mean, said once more by hand."""
    return RotaryEmbedding(
        kv_channels=args.kv_channels,
        rotary_percent=args.rotary_percent,
        rotary_interleaved=args.rotary_interleaved,
        seq_len_interpolation_factor=args.rotary_seq_len_interpolation_factor,
        rotary_base=args.rotary_base,
        rope_scaling=args.use_rope_scaling,
        rope_scaling_factor=args.rope_scaling_factor,
    )


@pytest.mark.parametrize(
    "names",
    [
        *([name] for name in ARGUMENTS if name != "rope_scaling_factor"),
        ["use_rope_scaling", "rope_scaling_factor"],
        list(ARGUMENTS),
    ],
    ids=" ".join,
)
def test_no_argument_is_dropped_under_any_method(model_parallel, monkeypatch, names):
    """At g = 1 the angles are those of the module that Megatron's own arguments describe."""
    args = megatron_args(monkeypatch, model_parallel, *flags_of(names))
    described, plain = module_of(args), RotaryEmbedding(32, 1.0)
    if names != ["rotary_interleaved"] and "rotary_percent" not in names:
        assert not torch.allclose(described(100), plain(100), atol=1e-4)
    original = built(args).rotary_pos_emb
    chunk = nn.Module()
    assert torch.equal(original(100), described(100))  # also what Megatron itself forgets
    dim = int(args.kv_channels * args.rotary_percent)
    for name, method in METHODS.items():
        if name == "none":
            continue
        for rule in RULES if "frequencies" in method.reads else [name]:
            options = settings_of(rule, dim)
            options |= {"factor": 4.0} if "factor" in method.reads else {}
            options |= {"frequencies": rule} if "frequencies" in method.reads else {}
            config = E2Config(position_method=name, base_window=64, train_window=64, **options)
            chunk.rotary_pos_emb = original
            install_rotary([chunk], config, own_rope(args))
            ours = chunk.rotary_pos_emb
            ours.set_draws([Draw(1.0, 0)])
            width = described(100).size(-1)  # without the channel of an attention factor
            same = torch.allclose(ours(100)[..., :width], described(100), rtol=1e-5, atol=1e-5)
            assert same or not RULES[rule].original_at_one, (name, rule)
