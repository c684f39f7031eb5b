# SPDX-License-Identifier: Apache-2.0
"""No command writes over what it reads: every one of them, by its own list of arguments."""

import argparse
import importlib
import os

import pytest

from e2_common.errors import UserError
from e2_common.outputs import OutputFile, OutputFolder
from tests.tools.test_light import COMMANDS

# Flags of outputs that are no single file, and that their rooms check: an empty folder, a prefix.
OTHERS = {"--save", "--output-prefix"}
OUTPUTS = ("--output", "--save", "--collect", "--plot", "--heat-map")


def parsers():
    """Every parser by its name, those of sub-commands too."""
    for name in COMMANDS:
        module = importlib.import_module(f"e2_tools.commands.{name}")
        parser = module.build_parser()
        yield name, parser, []
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for verb, inner in action.choices.items():
                    yield f"{name} {verb}", parser, [verb, inner]


PARSERS = {name: (parser, more) for name, parser, more in parsers()}


def actions_of(name):
    parser, more = PARSERS[name]
    return (more[1] if more else parser)._actions


def is_output(action):
    return action.type in (OutputFile, OutputFolder)


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_an_output_by_name_is_one_by_type(name):
    for action in actions_of(name):
        for option in action.option_strings:
            if option.startswith(OUTPUTS) and option not in OTHERS:
                assert is_output(action), option
            if "." in str(action.metavar) and action.type is not OutputFile:
                assert option not in ("--json", "--html", "--png"), option


def value_of(action, path):
    """Something that the parser takes; of text and paths the path."""
    if action.choices:
        return str(next(iter(action.choices)))
    for value in ("1", "50", "0", str(path)):
        try:
            taken = action.type(value) if action.type else str(path)
        except (ValueError, TypeError, argparse.ArgumentTypeError):
            continue
        return value if isinstance(taken, int | float) else str(path)
    raise AssertionError(action)


def line_of(name, path, output):
    """A command line whose every required argument, text or path, is ``path``."""
    _, more = PARSERS[name]
    words, last = [], []
    for action in actions_of(name):
        if is_output(action):
            words += [action.option_strings[0], str(output)]
        elif action.required and not isinstance(action, argparse._SubParsersAction):
            value = value_of(action, path)
            words += [*action.option_strings[:1], value] if action.option_strings else []
            last += [] if action.option_strings else [value]
    return [*more[:1], *words, *last]


WRITING = [name for name in PARSERS if any(map(is_output, actions_of(name)))]


@pytest.mark.parametrize("name", WRITING)
def test_an_output_that_is_an_input_is_refused_before_any_work(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser, _ = PARSERS[name]
    folder = any(action.type is OutputFolder for action in actions_of(name))
    (tmp_path / "in").mkdir() if folder else (tmp_path / "in").write_text("{}")
    os.symlink("in", "link")
    read = line_of(name, "in", "new").count("in")
    for output in ("in", "./in", "link", tmp_path / "in") if read else ():
        with pytest.raises(UserError, match="named") as info:
            parser.parse_args(line_of(name, "in", output))
        assert "\n" not in str(info.value)
    assert read or name in ("plot_positions", "plan_memory")
    if not folder:
        for wrong, word in ((tmp_path, "folder"), ("n" * 300, "too long")):
            with pytest.raises(UserError, match=word):
                parser.parse_args(line_of(name, "in", wrong))
