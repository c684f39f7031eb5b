# SPDX-License-Identifier: Apache-2.0
"""Which arguments make the model: found in Megatron, and taken over where it forgets them."""

import argparse
import contextlib
import io

import pytest

from benchmarks.arguments.table import megatron_parser
from e2_tools.checkpoint.families import FAMILIES
from megatron_patches.checkpoint.model_arguments import KINDS, KNOWN
from megatron_patches.checkpoint.model_fields import (
    BELONG_TO,
    NOT_THE_MODEL,
    counts,
    fed_to_models,
    is_named,
    of_the_model,
)
from megatron_patches.checkpoint.same_model import model_of
from megatron_patches.start.refused import flags_of


@pytest.fixture(scope="module")
def flags():
    return flags_of(megatron_parser())


class Stored(argparse.Namespace):
    """A checkpoint's arguments, each with a value of its own."""

    def __init__(self, flags):
        super().__init__(**{name: f"{name} of the checkpoint" for name in flags})


class Empty(argparse.Namespace):
    """A command line that says nothing."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)


def taken_over_by_megatron(stored, monkeypatch):
    """What Megatron itself takes over of a checkpoint's arguments; it is run."""
    from megatron.training import checkpointing

    state = {"args": stored, "iteration": 1, "checkpoint_version": 3.0}
    monkeypatch.setattr(
        checkpointing, "_load_base_checkpoint", lambda *_, **__: (state, "", False, None)
    )
    args = Empty(load="somewhere")
    with contextlib.redirect_stdout(io.StringIO()):
        checkpointing.load_args_from_checkpoint(args)
    return {name for name, value in vars(args).items() if value == getattr(stored, name, None)}


def test_what_megatron_forgets_is_taken_over(flags, monkeypatch):
    stored = Stored(flags)
    forgotten = set(of_the_model(flags)) - taken_over_by_megatron(stored, monkeypatch)
    assert forgotten > {"no_rope_freq", "qk_l2_norm", "window_size", "softmax_type", "qk_layernorm"}
    assert forgotten > {"glu_linear_offset", "layernorm_epsilon", "attention_output_gate"}
    taken = model_of(stored, flags)
    assert {name: taken.get(name) for name in forgotten} == {
        name: f"{name} of the checkpoint" for name in forgotten
    }


def test_an_argument_that_nobody_has_named_is_one_of_the_model(flags):
    fed = fed_to_models(flags)
    named = {name for name in fed if is_named(name, NOT_THE_MODEL)}
    assert fed - named == set(of_the_model(flags))
    for pattern in NOT_THE_MODEL:
        assert any(is_named(name, [pattern]) for name in fed), pattern
    for beginning, owner in BELONG_TO.items():
        assert any(name.startswith(beginning) for name in flags)
        assert owner in flags


def test_what_an_export_asks_a_run_is_compared_in(flags):
    """Or a checkpoint of no family would be resumed as one of a family, and the other way round."""
    said_elsewhere = {"heterogeneous_layers_config_path"}  # by its content
    assert {name for name in KNOWN if name in flags} - said_elsewhere <= set(of_the_model(flags))


def test_a_part_counts_only_with_its_owner():
    dense, experts = argparse.Namespace(num_experts=None), argparse.Namespace(num_experts=8)
    assert not counts("moe_router_topk", dense, dense)
    assert counts("moe_router_topk", dense, experts)
    assert counts("num_experts", dense)
    assert counts("window_size", dense)


def test_a_run_knows_the_kinds_of_families_that_an_export_knows():
    assert {family.kind for family in FAMILIES.values()} == set(KINDS)
