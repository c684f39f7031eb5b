# SPDX-License-Identifier: Apache-2.0
"""What a run of train_e2_hf.py may change when it goes on, and what it may not."""

import argparse
import shutil

import pytest

from e2_common.errors import UserError
from e2_llm.config import E2Config
from e2_tools.tuning import record
from e2_tools.tuning.arguments import build_parser
from e2_tools.tuning.model import source_of
from tests.tools.tuning.test_train_e2_hf import command

CONFIG = E2Config(base_window=64, train_window=32, max_scale=8, draw_per="sample")


@pytest.fixture
def args(start, tmp_path):
    words = map(str, command(start, tmp_path / "out"))
    args = build_parser().parse_args(words)
    args.checkpoint_dir = tmp_path / "checkpoints"
    return args


def other(value):
    """Another value than one of the command line."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return [*value, "more"] if isinstance(value, list) else f"{value}1"


def test_every_argument_is_kept_or_may_change(args):
    """Also one that comes later, which is kept unless somebody says that it may change."""
    source = source_of(args)
    record.write(args, CONFIG, [], source)
    record.check(args, CONFIG, [], source)
    free = record.MAY_CHANGE | record.BY_CONTENT
    assert not free - set(vars(args))
    refused = {}
    for name, value in vars(args).items():
        if name in record.BY_CONTENT or name == "checkpoint_dir":
            continue
        changed = argparse.Namespace(**vars(args) | {name: other(value)})
        try:
            record.check(changed, CONFIG, [], source)
        except UserError as error:
            refused[name] = str(error)
    assert set(refused) == set(vars(args)) - free - {"micro_batch_size"}
    for name, told in refused.items():
        assert f"--{name.replace('_', '-')} {vars(args)[name]} there" in told
    some = {"split", "adam_beta2", "clip_grad", "lora_dropout", "ignore_loss_masks", "seed"}
    assert some <= set(refused)


def test_a_micro_batch_that_shares_a_draw_is_kept(args):
    source = source_of(args)
    for draw_per, kept in (("sample", False), ("iteration", False), ("microbatch", True)):
        config = E2Config(base_window=64, train_window=32, max_scale=8, draw_per=draw_per)
        record.write(args, config, [], source)
        changed = argparse.Namespace(**vars(args) | {"micro_batch_size": 1})
        if kept:
            with pytest.raises(UserError, match="--micro-batch-size 2 there, 1 here"):
                record.check(changed, config, [], source)
        else:
            record.check(changed, config, [], source)


def test_another_model_is_refused(start, args, tmp_path):
    record.write(args, CONFIG, [], source_of(args))
    args.model = shutil.copytree(start / "model", tmp_path / "model")
    record.check(args, CONFIG, [], source_of(args))  # the same elsewhere
    weights = args.model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match="other weights, or another RoPE"):
        record.check(args, CONFIG, [], source_of(args))
