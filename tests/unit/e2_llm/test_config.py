# SPDX-License-Identifier: Apache-2.0
"""The configuration: flags, defaults, refusals."""

import argparse
import json

import pytest

from e2_common.errors import UserError
from e2_llm.arguments import add_arguments, config_from_args, store
from e2_llm.config import E2Config, differences
from e2_llm.methods import method_for
from e2_llm.placements import PLACEMENTS
from e2_llm.recipes import RECIPES
from e2_llm.registry import METHODS
from e2_llm.sampler import Draw
from tests.helpers.rules import settings_of


def parse(*argv):
    return config_from_args(arguments(*argv))


def arguments(*argv):
    parser = add_arguments(argparse.ArgumentParser())
    parser.add_argument("--seq-length", type=int)
    parser.add_argument("--max-position-embeddings", type=int)
    for samples in ("--train-samples", "--train-iters", "--global-batch-size"):
        parser.add_argument(samples, type=int)
    return parser.parse_args(argv)


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
        *("--e2-draw-per", "sample", "--e2-min-scale", "1.5", "--e2-skips", "3"),
        *("--e2-placement", "skips:0.75,offset:0.25", "--e2-curriculum", "0.5", "1"),
        *(
            "--train-samples",
            "4000",
            "--e2-scale-distribution",
            "log-uniform",
            "--e2-base-share",
            "0.25",
        ),
        *("--e2-frequencies", "yarn", "--e2-validation-windows", "64", "128"),
    )
    assert config == E2Config(
        base_window=128,
        train_window=32,
        max_scale=7,
        keep_first=2,
        draw_per="sample",
        min_scale=1.5,
        placement="skips:0.75,offset:0.25",
        skips=3,
        curriculum=(0.5, 1.0),
        planned_samples=4000,
        scale_distribution="log-uniform",
        base_share=0.25,
        frequencies="yarn",
        validation_windows=(64, 128),
    )
    assert parse(*WINDOWS, "--e2-no-offset").no_offset
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
            "--e2-frequencies is only for --position-method e2, pose, randpos, .*, not ntk",
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
        ([*WINDOWS, "--e2-placement", "middle"], "no placement 'middle'; there are offset, plain,"),
        ([*WINDOWS, "--e2-placement", "skips,random"], "say its share"),
        ([*WINDOWS, "--e2-placement", "skips:0.5,random:0.4"], "add up to 1"),
        ([*WINDOWS, "--e2-placement", "skips:1.5,random:-0.5"], "above 0"),
        ([*WINDOWS, "--e2-placement", "skips:nan,random:nan"], "add up to 1"),
        ([*WINDOWS, "--e2-placement", "skips:a,random:b"], "'a' is no share"),
        ([*WINDOWS, "--e2-placement", "skip:0.5,skip:0.5"], "twice"),
        ([*WINDOWS, "--e2-skips", "2"], "--e2-skips is only for --e2-placement skips, not offset"),
        ([*WINDOWS, "--e2-placement", "skips", "--e2-skips", "0"], "--e2-skips 0"),
        ([*WINDOWS, "--e2-placement", "skips", "--e2-keep-first", "2"], "--e2-keep-first is only"),
        ([*WINDOWS, "--e2-placement", "skips", "--e2-no-offset"], "exclude each other"),
        (
            [*WINDOWS, "--e2-sentence-ends", "[7]"],
            "--e2-sentence-ends is only for --e2-placement sentences, not offset",
        ),
        (
            [*WINDOWS, "--e2-placement", "turns", "--e2-sentence-ends", "[7]"],
            "--e2-sentence-ends is only for --e2-placement sentences, not turns",
        ),
        ([*WINDOWS, "--e2-no-offset", "--e2-sentence-ends", "[7]"], "exclude each other"),
        ([*WINDOWS, "--e2-curriculum", "0"], "--e2-curriculum 0"),
        (
            [*WINDOWS, "--e2-theta", "5e5"],
            "--e2-theta is only for the frequencies abf, not linear",
        ),
        (
            [*WINDOWS, "--position-method", "none", "--e2-theta", "5e5"],
            "--e2-theta is only for the frequencies abf, not none",
        ),
        ([*WINDOWS, "--e2-frequencies", "abf"], "--e2-theta is missing"),
        (
            [*WINDOWS, "--position-method", "abf", "--e2-factor", "2"],
            "--e2-theta is missing: the frequencies abf need it",
        ),
        ([*WINDOWS, "--e2-frequencies", "abf", "--e2-theta", "1"], "--e2-theta 1.0"),
        ([*WINDOWS, "--e2-frequencies", "abf", "--e2-theta", "nan"], "--e2-theta nan"),
        ([*WINDOWS, "--e2-frequencies", "longrope"], "--e2-longrope-factors is missing"),
        (
            [*WINDOWS, "--e2-frequencies", "longrope", "--e2-longrope-factors", "nowhere.json"],
            "--e2-longrope-factors nowhere.json: no such file",
        ),
        (
            [*WINDOWS, "--e2-frequencies", "longrope", "--e2-longrope-factors", '{"factor": 1'],
            "is no JSON",
        ),
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


CHOICES = ("scale_distribution", "frequencies", "placement")


def choices(*argv):
    return tuple(getattr(parse(*WINDOWS, *argv), name) for name in CHOICES)


def test_a_recipe_makes_the_three_choices_and_each_flag_overrules_its_own():
    paper, best = (tuple(RECIPES[name][choice] for choice in CHOICES) for name in RECIPES)
    assert paper == ("uniform-integer", "linear", "offset")
    assert choices() == choices("--e2-recipe", "paper") == paper
    assert choices("--e2-recipe", "best") == best
    # Also a flag that says what the paper does, before and after.
    linear = ("--e2-frequencies", "linear")
    assert choices("--e2-recipe", "best", *linear) == (best[0], "linear", best[2])
    assert choices(*linear, "--e2-recipe", "best") == (best[0], "linear", best[2])
    with pytest.raises(UserError, match="--e2-recipe is only for --position-method e2, not pose"):
        parse(*WINDOWS, "--position-method", "pose", "--e2-factor", "2", "--e2-recipe", "paper")


def test_a_checkpoint_remembers_the_choices_not_the_recipe():
    parser = add_arguments(argparse.ArgumentParser())
    args = parser.parse_args(["--e2-recipe", "best"])
    args.seq_length = args.max_position_embeddings = 64
    config = config_from_args(args)
    store(args, config)
    args.e2_recipe = None  # whatever a later version means by the word
    assert config_from_args(args) == config


def test_longer_than_the_base_window_is_only_warned_about():
    assert parse(*WINDOWS).warnings() == []
    (warning,) = parse("--seq-length", "128", *WINDOWS[2:]).warnings()
    assert "C1" in warning
    assert "\n" not in warning
    fits = parse("--seq-length", "128", *WINDOWS[2:], "--e2-fixed-scale", "2")
    assert fits.warnings() == []


LISTS = {"long_factor": [1.0, 2.5, 8.0], "factor": 8.0}


@pytest.mark.parametrize(
    "content",
    [
        LISTS,
        {**LISTS, "rope_type": "longrope", "short_factor": [1, 1, 1], "attention_factor": None},
        {**LISTS, "short_factor": [1.0, 2.5, 8.0]},
        {"rope_scaling": {**LISTS, "type": "longrope"}, "max_position_embeddings": 64},
        {"rope_parameters": LISTS, "model_type": "llama"},
    ],
    ids=str,
)
def test_factor_lists_are_read_from_any_form_that_holds_them(tmp_path, content):
    path = tmp_path / "factors.json"
    path.write_text(json.dumps(content))
    flags = [*WINDOWS, "--e2-frequencies", "longrope", "--e2-longrope-factors"]
    config = parse(*flags, str(path))
    assert json.loads(config.longrope_factors) == LISTS
    path.unlink()  # a checkpoint stores the content, which the next run reads
    assert parse(*flags, config.longrope_factors) == config


def test_the_windows_of_a_config_give_the_factor(tmp_path):
    """As Phi-3 has it: the windows outside, no factor."""
    content = {
        "rope_scaling": {"long_factor": [1.0, 4.0], "short_factor": [1.0, 1.1], "type": "longrope"},
        "original_max_position_embeddings": 64,
        "max_position_embeddings": 512,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content))
    flags = [*WINDOWS, "--e2-frequencies", "longrope", "--e2-longrope-factors", str(path)]
    found = json.loads(parse(*flags).longrope_factors)
    assert (found["factor"], found["original_max_position_embeddings"]) == (8.0, 64)
    assert found["short_factor"] == [1.0, 1.1]


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        ({}, "long_factor must be a list"),
        ({"long_factor": [], "factor": 2}, "long_factor must be a list"),
        ({"long_factor": [1, "x"], "factor": 2}, "long_factor must be a list"),
        ({"long_factor": [1, 0], "factor": 2}, "long_factor must be a list"),
        ({"long_factor": [1, True], "factor": 2}, "long_factor must be a list"),
        ({"long_factor": [1, 2]}, "factor is None"),
        ({"long_factor": [1, 2], "factor": 1}, "factor is 1"),
        ({"long_factor": [1, 2], "short_factor": [1], "factor": 2}, "short_factor has 1 numbers"),
        ({"long_factor": [1, 2], "short_factor": 1, "factor": 2}, "short_factor must be a list"),
        ({**LISTS, "attention_factor": -1}, "attention_factor -1"),
        ({"rope_scaling": "longrope"}, "long_factor"),
        (["long_factor"], "JSON object"),
    ],
    ids=str,
)
def test_a_file_without_factor_lists_is_refused(tmp_path, content, culprit):
    path = tmp_path / "factors.json"
    path.write_text(json.dumps(content))
    flags = [*WINDOWS, "--e2-frequencies", "longrope", "--e2-longrope-factors", str(path)]
    with pytest.raises(UserError, match=culprit) as error:
        parse(*flags)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_factor_lists_have_to_fit_the_model():
    for lists, culprit in (
        (LISTS, "3 factors, but the model has 16 frequencies"),
        ({**LISTS, "original_max_position_embeddings": 128}, "window of 128 tokens"),
    ):
        config = E2Config(
            base_window=64, train_window=64, frequencies="longrope",
            longrope_factors=json.dumps(lists),
        )  # fmt: skip
        dim = 32 if lists is LISTS else 6
        with pytest.raises(UserError, match=culprit):
            method_for(config).frequencies(Draw(2.0, 0), dim, 10000.0)


def test_a_long_value_is_shortened_in_a_message():
    long = {"long_factor": [1.0 + i for i in range(64)], "factor": 8.0}
    both = [
        E2Config(base_window=64, train_window=64, frequencies="longrope",
                 longrope_factors=json.dumps({**long, "factor": factor}))
        for factor in (8.0, 9.0)
    ]  # fmt: skip
    (change,) = differences(*both)
    assert change.startswith("--e2-longrope-factors {")
    assert len(change) < 200


@pytest.mark.parametrize(
    ("method", "placement"),
    [
        *((name, "offset") for name in METHODS),
        *(
            (name, placement)
            for name, method in METHODS.items()
            if "placement" in method.reads
            for placement in ("skips", "sentences:0.5,tail:0.5")
        ),
    ],
)
def test_a_checkpoint_s_unread_values_do_not_count(method, placement):
    """They are the defaults of the day when it was saved, which may have been others."""
    flags = {
        f"--e2-{name.replace('_', '-')}": str(value) for name, value in settings_of(method).items()
    }
    if "factor" in METHODS[method].reads:
        flags["--e2-factor"] = "4"
    if "placement" in METHODS[method].reads:
        flags["--e2-placement"] = placement
    words = [word for pair in flags.items() for word in pair]
    args = arguments(*WINDOWS, "--train-iters", "4", "--position-method", method, *words)
    config = config_from_args(args)
    others = {"e2_skips": 5, "e2_keep_first": 9, "e2_max_scale": 33, "e2_factor": 3.0}
    read = {f"e2_{name}" for name in METHODS[method].reads}
    if "placement" in METHODS[method].reads:
        named = placement.replace(":0.5", "").split(",")
        by_placements = {f"e2_{name}" for part in PLACEMENTS.values() for name in part.reads}
        read -= by_placements
        read |= {f"e2_{name}" for part in named for name in PLACEMENTS[part].reads}
    changed = {name: value for name, value in others.items() if name not in read}
    assert changed
    vars(args).update(changed)
    assert config_from_args(args, stored=True) == config
    with pytest.raises(UserError, match="only for"):
        config_from_args(args)
