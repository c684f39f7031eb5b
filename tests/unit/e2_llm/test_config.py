# SPDX-License-Identifier: Apache-2.0
"""The configuration: flags, defaults, refusals."""

import argparse

import pytest

from e2_common.errors import UserError
from e2_llm.arguments import add_arguments, config_from_args
from e2_llm.config import E2Config


def parse(*argv):
    parser = add_arguments(argparse.ArgumentParser())
    parser.add_argument("--seq-length", type=int)
    parser.add_argument("--max-position-embeddings", type=int)
    return config_from_args(parser.parse_args(argv))


WINDOWS = ("--seq-length", "64", "--max-position-embeddings", "64")


def test_defaults_are_the_papers():
    config = parse(*WINDOWS)
    assert config == E2Config(base_window=64, train_window=64)
    assert (config.position_method, config.max_scale, config.keep_first) == ("e2", 20, 4)
    assert config.draw_per == "microbatch"


def test_every_flag_arrives():
    config = parse(
        *("--seq-length", "32", "--max-position-embeddings", "256"),
        *("--e2-base-window", "128", "--e2-max-scale", "7", "--e2-keep-first", "2"),
        *("--e2-draw-per", "sample", "--e2-no-offset", "--e2-min-scale", "1.5"),
        *("--e2-scale-distribution", "log-uniform", "--e2-base-share", "0.25"),
        *("--e2-frequencies", "yarn", "--e2-validation-windows", "64", "128"),
    )
    assert config == E2Config(
        base_window=128,
        train_window=32,
        max_scale=7,
        keep_first=2,
        draw_per="sample",
        no_offset=True,
        min_scale=1.5,
        scale_distribution="log-uniform",
        base_share=0.25,
        frequencies="yarn",
        validation_windows=(64, 128),
    )
    assert parse(*WINDOWS, "--e2-fixed-scale", "3.5").fixed_scale == 3.5
    assert parse(*WINDOWS, "--position-method", "pose", "--e2-factor", "8").factor == 8


@pytest.mark.parametrize(
    ("argv", "culprit"),
    [
        (["--max-position-embeddings", "64"], "--seq-length"),
        (["--seq-length", "64"], "--max-position-embeddings"),
        ([*WINDOWS, "--e2-max-scale", "0"], "--e2-max-scale"),
        ([*WINDOWS, "--e2-keep-first", "-1"], "--e2-keep-first"),
        ([*WINDOWS, "--e2-fixed-scale", "0.5"], "--e2-fixed-scale"),
        ([*WINDOWS, "--position-method", "linear"], "--e2-factor"),
        ([*WINDOWS, "--e2-factor", "2"], "--e2-factor"),
        ([*WINDOWS, "--position-method", "none", "--e2-no-offset"], "--e2-no-offset"),
        ([*WINDOWS, "--position-method", "yarn"], "--e2-factor"),
        ([*WINDOWS, "--e2-min-scale", "0.5"], "--e2-min-scale"),
        ([*WINDOWS, "--e2-min-scale", "21"], "--e2-min-scale 21 is above --e2-max-scale 20"),
        ([*WINDOWS, "--e2-base-share", "1.5"], "--e2-base-share"),
        ([*WINDOWS, "--e2-fixed-scale", "2", "--e2-max-scale", "7"], "exclude each other"),
        (
            [*WINDOWS, "--position-method", "ntk", "--e2-factor", "2", "--e2-frequencies", "yarn"],
            "--e2-frequencies is only for --position-method e2, pose, randpos, not ntk",
        ),
        (
            [
                *WINDOWS,
                "--position-method",
                "linear",
                "--e2-factor",
                "2",
                "--e2-draw-per",
                "sample",
            ],
            "--e2-draw-per",
        ),
        (
            [
                "--seq-length",
                "128",
                *WINDOWS[2:],
                "--position-method",
                "pose",
                "--e2-factor",
                "1.5",
            ],
            "--e2-factor",
        ),
        ([*WINDOWS, "--e2-validation-windows", "1"], "--e2-validation-windows"),
        (
            ["--seq-length", "128", *WINDOWS[2:], "--e2-max-scale", "1"],
            "--seq-length 128 is more than the largest scale can hold",
        ),
        (["--seq-length", "128", *WINDOWS[2:], "--e2-fixed-scale", "1.5"], "--e2-fixed-scale"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(argv, culprit):
    with pytest.raises(UserError, match=culprit.replace("(", r"\(")) as error:
        parse(*argv)
    assert "\n" not in str(error.value)


def test_longer_than_the_base_window_is_only_warned_about():
    assert parse(*WINDOWS).warnings() == []
    (warning,) = parse("--seq-length", "128", *WINDOWS[2:]).warnings()
    assert "C1" in warning
    assert "\n" not in warning
    fits = parse("--seq-length", "128", *WINDOWS[2:], "--e2-fixed-scale", "2")
    assert fits.warnings() == []
